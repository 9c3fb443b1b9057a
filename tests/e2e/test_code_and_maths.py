"""Completion, code and mathematics on the real demo model, checked in the real checker process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from handlers.inference.generator import Generator
from handlers.inference.model import LoadedModel
from handlers.inference.tokenizer import TextTokenizer
from handlers.runtimes.base import RuntimeConfig
from handlers.sandbox.checker import Checker
from handlers.wire import GenerateRequest
from tests.demo import demo_folder

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def generator() -> AsyncIterator[Generator]:
    """One loaded model behind all engines, as in a worker."""
    from handlers.runtimes.openvino.runtime import OpenVinoRuntime

    folder = demo_folder("openvino")
    runtime = OpenVinoRuntime(RuntimeConfig(folder, "Q4_1", threads=2), lambda _: None)
    yield Generator(LoadedModel(runtime, TextTokenizer(folder)))
    runtime.close()


async def answered(generator: Generator, engine: str, prompt: str, **options: Any) -> dict[str, Any]:
    """The last record; its findings are those of a check of the same text."""
    request = GenerateRequest.model_validate(
        {"id": "r", "engine": engine, "prompt": prompt, "options": options, "sampling": {"max_tokens": 60}}
    )
    records = [record async for record in generator.records(request)]
    done: dict[str, Any] = records[-1]["done"]
    checker = Checker()
    about_the_run = {"attempts", "cached"}
    checked = await checker.findings(request, done["text"])
    checker.close()
    assert {k: v for k, v in done["findings"].items() if k not in about_the_run} == {
        k: v for k, v in checked.items() if k not in about_the_run
    }
    return done


async def test_a_completion_is_code_and_the_second_one_is_kept(generator: Generator) -> None:
    options = {"prefix": "def add(a, b):\n    return", "filename": "sums.py"}
    first = await answered(generator, "code_completion", "-", **options)
    assert first["findings"] == {"language": "python", "mode": "continuation", "cached": False}
    assert first["text"].strip()
    again = await answered(generator, "code_completion", "-", **options)
    assert (again["text"], again["findings"]["cached"]) == (first["text"], True)
    assert again["usage"]["completion_tokens"] == 0


async def test_generated_code_is_taken_apart(generator: Generator) -> None:
    done = await answered(
        generator, "code_generation", "Write a function that adds two numbers.", language="python"
    )
    assert done["findings"]["language"] == "python"
    assert all(block["syntax_ok"] in (True, False, None) for block in done["findings"]["blocks"])


async def test_an_answer_to_a_sum_is_judged(generator: Generator) -> None:
    done = await answered(generator, "mathematical_reasoning", "What is 2 + 2?", context="arithmetic")
    assert done["findings"]["verified"] in ("true", "false", "unknown")
    assert done["findings"]["attempts"] in (1, 2)
    assert done["findings"]["reason"]
