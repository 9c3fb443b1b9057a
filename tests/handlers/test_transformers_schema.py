"""Schemas as token masks: refusals before the batch, bounded compile time, and errors that never raise."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from handlers.runtimes.transformers.schema import SchemaCompiler
from handlers.wire import RequestError
from tests.handlers.tiny_models import EOS, VOCABULARY


@pytest.fixture(scope="module")
def compiler(tiny_llama_folder: Path) -> SchemaCompiler:
    return SchemaCompiler(tiny_llama_folder / "tokenizer.json", VOCABULARY, [EOS])


def allowed(row: torch.Tensor) -> list[int]:
    return torch.nonzero(row.isfinite()).view(-1).tolist()


async def test_only_tokens_that_fit_stay_and_the_end_token_at_the_end(
    compiler: SchemaCompiler, tiny_llama_folder: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_llama_folder / "tokenizer.json"))
    mask = await compiler.compile({"enum": [7]})
    row = torch.zeros(VOCABULARY)
    mask.apply(row)
    seven = tokenizer.encode("7").ids
    assert allowed(row) == seven
    mask.advance(seven)
    row = torch.zeros(VOCABULARY)
    mask.apply(row)
    assert allowed(row) == [EOS]
    assert mask.failure is None


async def test_a_token_outside_of_the_schema_is_a_failure_that_lets_only_the_end_token_through(
    compiler: SchemaCompiler,
) -> None:
    mask = await compiler.compile({"enum": [7]})
    mask.advance([EOS + 100])
    row = torch.zeros(VOCABULARY)
    mask.apply(row)
    assert allowed(row) == [EOS]
    assert mask.failure


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "banana"},
        {"$ref": "#/nope"},
        {"$ref": "#"},
        {"not": {}},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"type": "string", "pattern": "("},
    ],
)
async def test_a_schema_the_compiler_refuses_is_a_400_in_one_line(
    compiler: SchemaCompiler, schema: dict[str, Any]
) -> None:
    with pytest.raises(RequestError) as refused:
        await compiler.compile(schema)
    assert (refused.value.status, refused.value.param) == (400, "json_schema")
    assert "\n" not in refused.value.message


async def test_a_schema_that_takes_too_long_is_a_400(
    compiler: SchemaCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    going_on = threading.Event()
    monkeypatch.setattr("handlers.runtimes.transformers.schema.COMPILE_SECONDS", 0.01)
    monkeypatch.setattr(compiler, "_build", lambda _: going_on.wait(30))
    try:
        with pytest.raises(RequestError, match="takes longer"):
            await compiler.compile({"type": "string"})
    finally:
        going_on.set()
        await asyncio.get_running_loop().shutdown_default_executor()


async def test_without_an_end_token_a_schema_is_refused(tiny_llama_folder: Path) -> None:
    endless = SchemaCompiler(tiny_llama_folder / "tokenizer.json", VOCABULARY, [])
    with pytest.raises(RequestError, match="no end token"):
        await endless.compile({"type": "string"})
