"""Sizes of the KV cache, and admission to it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from conductor_core.runtimes import RUNTIMES
from handlers.runtimes.base import RuntimeConfig, SamplingPlan
from handlers.runtimes.cache_places import Places, reserve_tokens
from handlers.runtimes.transformers.batch import CancelledMakesRoom
from handlers.runtimes.transformers.causal import Asked
from handlers.runtimes.transformers.decoding import RequestDecoding
from handlers.runtimes.transformers.flow import Flow, FlowProgress
from handlers.runtimes.transformers.load import Loaded
from handlers.runtimes.transformers.memory import (
    CPU_CACHE_TOKENS,
    MIN_TOKENS,
    PAGE_TOKENS,
    bytes_per_token,
    pages,
    places,
    plan_cache,
)

GIB = 1024**3


def loaded(positions: int = 8192, weights: int = GIB) -> Loaded:
    text = SimpleNamespace(num_hidden_layers=30, num_key_value_heads=3, head_dim=64)
    config = SimpleNamespace(get_text_config=lambda: text)
    model: Any = SimpleNamespace(config=config, dtype=torch.bfloat16)
    return Loaded(model, (2,), 49152, positions, weights, Path("tokenizer.json"))


def config(**values: Any) -> RuntimeConfig:
    return RuntimeConfig(Path("m"), "BF16", **values)


def test_the_largest_cache_on_a_cpu_is_that_of_the_entry() -> None:
    assert RUNTIMES["transformers"].cpu_cache_tokens == CPU_CACHE_TOKENS


def test_a_token_costs_key_and_value_of_every_layer() -> None:
    assert bytes_per_token(loaded().model) == 2 * 30 * 3 * 64 * 2


def test_without_declared_memory_the_cache_holds_the_whole_context() -> None:
    plan = plan_cache(config(), loaded(positions=131_072), None)
    assert plan.context == 131_072
    assert plan.blocks is not None
    assert plan.blocks * PAGE_TOKENS > plan.context


@pytest.mark.parametrize(("asked", "given"), [(None, 8192), (4096, 4096), (100_000, 8192)])
def test_the_context_is_the_smaller_of_row_and_model(asked: int | None, given: int) -> None:
    assert plan_cache(config(context=asked), loaded(), None).context == given


def test_declared_memory_cuts_the_models_context_but_not_one_that_the_row_names() -> None:
    scarce = GIB + GIB // 2 + 2048 * bytes_per_token(loaded().model)
    assert plan_cache(config(memory=scarce), loaded(), None).context == 2048
    named = plan_cache(config(memory=scarce, context=8192), loaded(), None)
    assert named.context == 8192
    assert named.blocks is not None
    assert named.blocks * PAGE_TOKENS > 8192


def test_memory_smaller_than_the_weights_leaves_a_usable_context() -> None:
    assert plan_cache(config(memory=1), loaded(), None).context == MIN_TOKENS


def test_on_a_gpu_the_library_sizes_the_cache_within_a_fraction() -> None:
    plan = plan_cache(config(device="cuda", memory=3 * GIB), loaded(), 10 * GIB)
    assert plan.blocks is None
    assert plan.fraction == pytest.approx(0.2)
    assert plan_cache(config(device="cuda"), loaded(), 10 * GIB).fraction == pytest.approx(0.8)


def test_the_cache_has_a_reserve_beside_the_longest_request_where_there_is_room() -> None:
    wide = plan_cache(config(), loaded(positions=131_072), None)
    assert wide.blocks is not None
    assert wide.blocks * PAGE_TOKENS >= wide.context + reserve_tokens(wide.context)
    assert places(wide.blocks * PAGE_TOKENS, wide.context).reserve == pages(4096)
    scarce = plan_cache(config(memory=1, context=1024), loaded(), None)
    assert scarce.blocks is not None
    assert places(scarce.blocks * PAGE_TOKENS, 1024) == Places(blocks=5, reserve=1)


def test_a_request_needs_the_pages_of_its_prompt_and_of_what_it_said() -> None:
    decoding = RequestDecoding([1], SamplingPlan(max_tokens=9), 300, torch.device("cpu"))
    asked = Asked(1, "1", [5] * 254, decoding, Flow(decoding, ()))
    assert asked.blocks == 1
    asked.flow.receive(FlowProgress([7, 7], finished=False))
    assert asked.blocks == 2


def test_who_was_put_back_is_let_in_when_the_holder_of_the_cache_is_cancelled() -> None:
    cache: Any = SimpleNamespace(free_blocks=lambda request_id: None)
    scheduler = CancelledMakesRoom(cache, safety_margin=0.0, max_requests_per_batch=8)
    holder: Any = SimpleNamespace(request_id="holder")
    scheduler.active_requests["holder"] = holder
    scheduler.block_new_requests = True
    scheduler.clear_cancelled_requests()
    assert scheduler.block_new_requests
    scheduler.set_request_cancellation("holder")
    assert scheduler.clear_cancelled_requests() == [holder]
    assert not scheduler.block_new_requests
