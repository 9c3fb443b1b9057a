"""A runtime that the project does not have: an entry and a module are enough for a row to be answered."""

from __future__ import annotations

import os
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import yaml

from archives.build import Built, build_rows, build_set
from archives.build_context import BuildContext
from conductor_core.paths import ProjectPaths
from conductor_core.runtimes import RUNTIMES, Form, RuntimeSpec
from handlers.engine_handler import EngineHandler
from handlers.worker.process import WorkerServer
from handlers.worker_config import WorkerConfig
from tests.archives.samples import FakeJob
from tests.conductor_core.settings_texts import mistakes, parsed
from tests.handlers.tiny_models import byte_tokenizer
from tests.torchserve_process import short_folder

LIMIT_S = 20
MODULE = '''
"""A runtime that says its prompt again."""

from handlers.runtimes.base import RuntimeStats, Step


def open_runtime(config, on_fatal):
    return Repeating(config)


class Repeating:
    vocabulary = 1000

    def __init__(self, config):
        self.context = config.context
        self.can_hold = config.memory // config.kv_token_bytes

    async def submit(self, request_id, prompt_ids, plan):
        for token in prompt_ids[: plan.max_tokens]:
            yield Step([token])
        yield Step([], "stop")

    def stats(self):
        return RuntimeStats(running=0, waiting=0)

    def close(self):
        pass
'''
SPEC = RuntimeSpec(
    name="repeating",
    module="repeating_runtime.runtime",
    packages=(),
    libraries=(),
    devices=frozenset({"cpu"}),
    forms=frozenset({Form.GGUF}),
    kv_bytes=2.0,
    process_bytes=1_000_000,
    refused=frozenset({"seed"}),
)
ROW = {"Technical Model Name": "./tiny.Q4_1.gguf", "Precision": "", "Runtime": "repeating"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with a model, and the runtime's entry and package."""
    package = tmp_path / "packages" / "repeating_runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "runtime.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setitem(RUNTIMES, SPEC.name, SPEC)
    (tmp_path / "tiny.Q4_1.gguf").write_bytes(b"GGUF")
    return tmp_path


def convert(module: str, request: Mapping[str, Any], **_: Any) -> dict[str, Any]:
    """A conversion that makes a real tokenizer, and keeps the file as the real one does."""
    answer = FakeJob()(module, request)
    target = Path(request["target"])
    byte_tokenizer().save(str(target / "tokenizer.json"))
    (target / "model.gguf").symlink_to(request["source"])
    return answer


def build(project: Path) -> Built:
    (worker_set,) = parsed(ROW).sets
    context = BuildContext(ProjectPaths.at(project / "SETTINGS.md"), job=convert)
    return build_set(worker_set, project / "store", context)


def config_of(built: Built) -> WorkerConfig:
    with zipfile.ZipFile(built.path) as archive:
        return WorkerConfig.from_yaml(yaml.safe_load(archive.read("model-config.yaml"))["conductor"])


@asynccontextmanager
async def worker(config: WorkerConfig) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the worker's socket."""
    with short_folder() as run_dir:
        server = WorkerServer(config, EngineHandler().load, run_dir, lambda _: None)
        server.start()
        transport = httpx2.AsyncHTTPTransport(uds=str(run_dir / f"{os.getpid()}.sock"))
        try:
            async with httpx2.AsyncClient(
                transport=transport, base_url="http://worker", timeout=LIMIT_S
            ) as client:
                yield client
        finally:
            server.stop()


async def ask(client: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    """The last record of an answer without an engine."""
    body = {"id": "r", "engine": "conversational_chat", "prompt": "Guten Tag", "bare": True, **fields}
    answer = await client.post("/generate", json=body)
    return dict(orjson.loads(answer.text.splitlines()[-1]))


async def test_an_entry_and_a_module_answer_a_row(project: Path) -> None:
    config = config_of(build(project))
    assert (config.runtime, config.module, config.refused) == (SPEC.name, SPEC.module, ("seed",))
    assert config.kv_token_bytes == 2 * 2 * 2 * 4 * 2  # keys and values, layers, heads, width, bytes
    async with worker(config) as client:
        assert (await ask(client))["done"]["text"] == "Guten Tag"
        refusal = (await ask(client, sampling={"seed": 1}))["error"]
    assert (refusal["code"], refusal["param"]) == ("unsupported_parameter", "seed")
    assert "runtime repeating" in refusal["message"]


def test_it_is_built_once_until_its_module_changes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(project)
    assert first.changed
    assert not build(project).changed
    monkeypatch.setitem(RUNTIMES, SPEC.name, replace(SPEC, module="elsewhere"))
    again = build(project)
    assert again.changed
    assert again.version != first.version
    assert config_of(again).module == "elsewhere"


def test_its_weights_are_bundled(project: Path) -> None:
    context = BuildContext(ProjectPaths.at(project / "SETTINGS.md"), job=convert)
    (built,) = build_rows(parsed(ROW), project / "store", context, bundle=True).archives
    with zipfile.ZipFile(built.path) as archive:
        assert archive.read("weights/model.gguf") == b"GGUF"
        assert "weights/tokenizer.json" in archive.namelist()


def test_its_rules_come_from_its_entry(project: Path) -> None:
    (device,) = mistakes({**ROW, "Device": "cuda"})
    assert "expected auto or cpu, since repeating serves on a CPU" in device
    (form,) = mistakes({**ROW, "Precision": "BF16"})
    assert "repeating serves a GGUF at its own quantisation" in form
    assert "BF16 of this model is served by transformers" in form
    (unknown,) = mistakes({"Runtime": "ollama"})
    assert "expected auto, transformers, openvino or repeating" in unknown
