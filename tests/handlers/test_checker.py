"""The checker process gives the same findings as the calling process, within limits, and blocks nobody."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from handlers.engines.registry import engine_class, engine_names
from handlers.inference.generator import Generator
from handlers.inference.model import LoadedModel
from handlers.inference.tokenizer import TextTokenizer
from handlers.sandbox import template
from handlers.sandbox.checker import Checker
from handlers.sandbox.fair_queue import Busy, QueueBounds
from handlers.wire import GenerateRequest, RequestError
from tests.demo import demo_folder
from tests.handlers.fake_runtime import ScriptedRuntime

LETTERS = [[f"{row}_{column}" for column in "abcdef"] for row in "uvwxyz"]
ENDLESS = f"Find the eigenvalues of [{','.join('[' + ','.join(row) + ']' for row in LETTERS)}]"


OTHERS: set[int] = set()
"""Processes of gateways that earlier tests of this run have not ended yet."""


def asked(
    prompt: str = "What is 6 * 7?", engine: str = "mathematical_reasoning", **options: Any
) -> GenerateRequest:
    return GenerateRequest(id="r", engine=engine, prompt=prompt, options=options)


REQUIRED: dict[str, dict[str, Any]] = {
    "information_extraction": {"schema": {"type": "object"}},
    "translation": {"target": "fr"},
}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.fixture
def checker() -> Iterator[Checker]:
    """A checker with short limits."""
    OTHERS.update(child.pid for child in children())
    made = Checker(cpu_s=0.5, memory=200 * 2**20)
    yield made
    made.close()


def children() -> list[psutil.Process]:
    family = psutil.Process().children(recursive=True)
    ours = [child for child in family if child.pid not in OTHERS]
    return [child for child in ours if "handlers.sandbox.template_process" in child.cmdline()]


def forked() -> list[psutil.Process]:
    """The children of the template."""
    return [child for child in children() if child.ppid() != os.getpid()]


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


def test_wrong_options_are_refused_by_name(checker: Checker) -> None:
    with pytest.raises(RequestError, match="'text' or 'latex'") as refused:
        checker.check(asked(format="html"), "42")
    assert (refused.value.status, refused.value.param) == (400, "options.format")


async def test_an_engine_that_reads_no_text_starts_no_process(checker: Checker) -> None:
    for engine in ("conversational_chat", "general_reasoning", "embedding"):
        request = asked(engine=engine)
        assert await checker.findings(request, "Yes.") == engine_class(engine)().check(request, "Yes.")
        await checker.prepared(request)
    assert not children()


def test_only_engines_that_look_at_types_and_lengths_stay_outside() -> None:
    outside = {name for name in engine_names() if not engine_class(name).reads_text}
    assert outside == {"conversational_chat", "general_reasoning", "embedding"}


@pytest.mark.parametrize("engine", [name for name in engine_names() if engine_class(name).reads_text])
async def test_every_engine_that_reads_text_does_so_in_the_process(
    engine: str, checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("it ran on the event loop")

    request = GenerateRequest(
        id="r", engine=engine, prompt="What is 6 * 7?", options=REQUIRED.get(engine, {})
    )
    kind = engine_class(engine)
    expected = kind().prepare(request)
    for name in ("accept", "prepare", "converse", "check", "get_system_prompt", "unchecked"):
        monkeypatch.setattr(kind, name, refuse)
    assert await checker.prepared(request) == expected
    assert await checker.prepared(request, "converse")
    assert await checker.findings(request, "Final answer: 42")


async def test_a_request_that_cannot_be_read_within_the_limits_is_a_400() -> None:
    checker = Checker(cpu_s=0.1)
    await checker.prepared(asked())
    for process in forked():
        process.suspend()
    with pytest.raises(RequestError) as refused:
        await checker.prepared(asked())
    assert (refused.value.status, refused.value.code) == (400, "unreadable_request")
    assert "0.5 s" in refused.value.message
    checker.close()


async def test_a_slow_check_keeps_no_other_waiting(checker: Checker) -> None:
    await checker.findings(asked(), "42")
    slow = asyncio.create_task(checker.findings(asked(ENDLESS), "Final answer: 1"))
    for _ in range(5):
        assert (await checker.findings(asked(), "42"))["verified"] == "true"
        assert not slow.done()
    assert (await slow)["verified"] == "unknown"


async def test_a_slow_check_delays_no_other_answers_last_record() -> None:
    tokenizer = TextTokenizer(demo_folder("openvino"))
    runtime = ScriptedRuntime(tokenizer.encode("Final answer: 1"), context=8192, vocabulary=100_000)
    generator = Generator(LoadedModel(runtime, tokenizer))

    async def reason_of(request: GenerateRequest) -> str:
        records = [record async for record in generator.records(request)]
        return str(records[-1]["done"]["findings"].get("reason"))

    slow = asyncio.create_task(reason_of(asked(ENDLESS)))
    await until(lambda: any(child.cpu_times().user > 0.05 for child in forked()))
    for _ in range(5):
        assert "was stopped" not in await reason_of(asked())
        assert not slow.done()
    assert "was stopped" in await slow


async def test_a_client_that_left_ends_its_check(checker: Checker) -> None:
    await checker.findings(asked(), "42")
    slow = asyncio.create_task(checker.findings(asked(ENDLESS), "Final answer: 1"))
    await until(lambda: any(child.cpu_times().user > 0.05 for child in forked()))
    at_it = [child for child in forked() if child.cpu_times().user > 0.05]
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    assert not (await asyncio.to_thread(psutil.wait_procs, at_it, timeout=5))[1]


async def test_an_answer_says_so_where_there_is_no_place_for_its_check() -> None:
    full = Checker(bounds=QueueBounds(own_waiting=0, running=1))
    async with full._pool._queue.place("other"):
        for engine in engine_names():
            request = asked(engine=engine)
            if not engine_class(engine).reads_text:
                continue
            found = await full.conclude(request, "42")
            assert "not checked" in str(found)
            with pytest.raises(Busy):
                await full.findings(request, "42")
    full.close()


async def test_a_killed_process_is_replaced(checker: Checker) -> None:
    await checker.findings(asked(), "42")
    family = children()
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=5)
    assert (await checker.findings(asked(), "42"))["verified"] == "true"


@pytest.mark.parametrize("which", ["template", "children", "all"])
@pytest.mark.parametrize("signal", ["kill", "suspend"])
async def test_a_process_that_was_ended_or_stopped_is_replaced_in_time(
    checker: Checker, monkeypatch: pytest.MonkeyPatch, which: str, signal: str
) -> None:
    monkeypatch.setattr(template, "FORK_S", 1.0)
    await checker.findings(asked(), "42")
    every = children()
    first = [process for process in every if process.ppid() == os.getpid()]
    for process in {"template": first, "children": forked(), "all": every}[which]:
        getattr(process, signal)()
    said = [(await checker.findings(asked(), "42"))["verified"] for _ in range(2)]
    # A child that hangs in a check is ended at the limit of that check; the next check is answered.
    assert said[-1] == "true"
    # A new engine needs the template itself.
    assert (await checker.findings(asked(engine="question_answering"), "Yes."))["warnings"] == []


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
