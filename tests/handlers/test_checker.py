"""The checker process: the same findings as in one's own process, within limits, and never in the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from handlers.checker import Checker
from handlers.engines.registry import engine_class
from handlers.wire import GenerateRequest, RequestError

LETTERS = [[f"{row}_{column}" for column in "abcdef"] for row in "uvwxyz"]
ENDLESS = f"Find the eigenvalues of [{','.join('[' + ','.join(row) + ']' for row in LETTERS)}]"


OTHERS: set[int] = set()
"""Processes of gateways that earlier tests of this run have left to the garbage collector."""


def asked(
    prompt: str = "What is 6 * 7?", engine: str = "mathematical_reasoning", **options: Any
) -> GenerateRequest:
    return GenerateRequest(id="r", engine=engine, prompt=prompt, options=options)


@pytest.fixture
def checker() -> Iterator[Checker]:
    """One that gives up soon."""
    OTHERS.update(child.pid for child in children())
    made = Checker(cpu_s=0.5, memory=200 * 2**20)
    yield made
    made.close()


def children() -> list[psutil.Process]:
    family = psutil.Process().children(recursive=True)
    ours = [child for child in family if child.pid not in OTHERS]
    return [child for child in ours if "handlers.checker_process" in child.cmdline()]


def test_findings_are_those_of_the_engine_itself(checker: Checker) -> None:
    request, text = asked(), "Six times seven.\nFinal answer: 42"
    found = checker.check(request, text)
    assert found == engine_class(request.engine)().check(request, text)
    assert found["verified"] == "true"


def test_a_check_without_an_end_is_stopped_and_the_next_one_is_answered(checker: Checker) -> None:
    stopped = checker.check(asked(ENDLESS), "Final answer: 1")
    assert (stopped["verified"], stopped["answer"]) == ("unknown", "1")
    assert "0.5 s" in stopped["reason"]
    assert checker.check(asked(), "42")["verified"] == "true"


def test_a_check_that_takes_all_memory_is_stopped() -> None:
    small = Checker(memory=60 * 2**20)
    prompt = "Expand (a + b + c + x + y + z + u + v)^60"
    stopped = small.check(asked(prompt), "Final answer: (a + b + c + x + y + z + u + v)^60")
    small.close()
    assert stopped["verified"] == "unknown"
    assert "60 MB" in stopped["reason"]


def test_wrong_options_are_refused_before_any_process_is_asked(checker: Checker) -> None:
    with pytest.raises(RequestError, match="'text' or 'latex'") as refused:
        checker.check(asked(format="html"), "42")
    assert (refused.value.status, refused.value.param) == (400, "options.format")
    assert not children()


async def test_an_engine_that_parses_nothing_starts_no_process(checker: Checker) -> None:
    assert await checker.findings(asked(engine="question_answering"), "Yes.") == {
        "quotes": [],
        "warnings": [],
    }
    assert not children()


async def test_a_killed_process_is_replaced(checker: Checker) -> None:
    await checker.findings(asked(), "42")
    family = children()
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=5)
    assert (await checker.findings(asked(), "42"))["verified"] == "true"


def test_closing_ends_template_and_child(checker: Checker) -> None:
    checker.check(asked(), "42")
    family = children()
    assert len(family) == 2
    checker.close()
    assert not psutil.wait_procs(family, timeout=5)[1]


def test_the_processes_load_no_inference_library_and_no_main_module(checker: Checker) -> None:
    checker.check(asked(), "42")
    for process in children():
        mapped = " ".join(entry.path for entry in process.memory_maps())
        assert "torch" not in mapped
        assert process.memory_full_info().uss < 200 * 2**20
