"""The watch of an event loop, on uvloop and asyncio's own loop, reports long steps and no others."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest
import uvloop

from conductor_admin.http.request_context import arrived_for, route_of
from handlers.diagnostics.loop_watch import LIMIT_S, STUCK_S, Holds, LoopStall, LoopWatch
from tests.loop_steps import own_work

RUNNERS = pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
LONG = b"[" + b"[]," * 1_500_000 + b"[]]"
"""A call of C that keeps the interpreter's lock for half a second: a busy machine reports less of it."""


class Watched:
    """The reports of one watch; `seen` waits for them."""

    def __init__(self) -> None:
        self.held: list[LoopStall] = []
        self.lags: list[float] = []
        self.has_told = threading.Event()

    def told(self, held: LoopStall) -> None:
        self.held.append(held)
        self.has_told.set()

    @property
    def ended(self) -> list[LoopStall]:
        return [held for held in self.held if held.is_over]

    async def seen(self) -> None:
        """Returns once a step has ended."""
        async with asyncio.timeout(20):
            while not self.ended:
                await asyncio.sleep(0.01)


def watched(run: Callable[..., Any], work: Callable[[Watched], Awaitable[None]]) -> Watched:
    """Runs `work` on a new loop in a thread, with a watch."""
    seen = Watched()

    async def main() -> None:
        watch = LoopWatch(seen.told, seen.lags.append, route_of)
        watch.start()
        await asyncio.sleep(0.1)
        await work(seen)
        watch.stop()

    def in_thread() -> None:
        with own_work("these steps are meant to be too long"):
            run(main())

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    return seen


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@RUNNERS
def test_a_step_of_python_is_told_with_its_name_its_line_and_its_route(run: Callable[..., Any]) -> None:
    async def slow() -> None:
        arrived_for("/slow/{one}")
        await asyncio.sleep(0)
        burn(4 * LIMIT_S)

    async def work(seen: Watched) -> None:
        await asyncio.create_task(slow(), name="slow one")
        await seen.seen()

    (held,) = watched(run, work).ended
    assert held.step.endswith("its_route.<locals>.slow")
    assert held.place.rpartition(":")[0].endswith("test_loop_watch.burn")
    assert (held.task, held.route, held.is_over) == ("slow one", "/slow/{one}", True)
    assert LIMIT_S <= held.cpu_s <= 4 * LIMIT_S + 0.02
    assert held.seconds >= LIMIT_S


@RUNNERS
def test_a_call_that_keeps_the_interpreters_lock_is_told(run: Callable[..., Any]) -> None:
    async def slow() -> None:
        json.loads(LONG)

    async def work(seen: Watched) -> None:
        await asyncio.create_task(slow())
        await seen.seen()

    (held,) = watched(run, work).ended
    assert held.step.endswith("slow")
    assert held.cpu_s >= LIMIT_S


@RUNNERS
def test_a_callback_that_waits_for_a_disk_is_told_without_processor_time(run: Callable[..., Any]) -> None:
    def blocked() -> None:
        threading.Event().wait(0.3)

    async def work(seen: Watched) -> None:
        asyncio.get_running_loop().call_soon(blocked)
        await seen.seen()

    (held,) = watched(run, work).ended
    assert held.step.endswith("blocked")
    assert (held.task, held.route) == (None, None)
    assert held.seconds >= LIMIT_S > held.cpu_s


@RUNNERS
def test_many_short_steps_in_one_turn_are_nobodys_long_one(run: Callable[..., Any]) -> None:
    async def short() -> None:
        for _ in range(4):
            burn(0.01)
            await asyncio.sleep(0)

    async def work(seen: Watched) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(40):
            loop.call_soon(burn, 0.01)
        await asyncio.gather(*(short() for _ in range(20)))

    seen = watched(run, work)
    assert [held for held in seen.held if held.cpu_s >= LIMIT_S] == []
    assert max(seen.lags) >= LIMIT_S  # the loop iteration itself was long, and is reported


@RUNNERS
def test_a_step_that_does_not_end_is_told_while_it_lasts(run: Callable[..., Any]) -> None:
    async def work(seen: Watched) -> None:
        async def stuck() -> None:
            seen.has_told.wait(20)

        await asyncio.create_task(stuck())
        await seen.seen()

    first, last = watched(run, work).held
    assert (first.is_over, last.is_over) == (False, True)
    assert STUCK_S <= first.seconds <= last.seconds


def test_one_line_a_minute_is_due_for_each_place_and_route() -> None:
    holds = Holds()
    one, other = (LoopStall("step", place, None, "/a", 0.06, 0.06) for place in ("here:1", "here:2"))
    route = replace(one, route="/b")
    assert [holds.add(held) for held in (one, one, other, route, one)] == [True, False, True, True, False]
    assert (holds.count, holds.longest_s) == (5, 0.06)


@RUNNERS
def test_steps_before_a_late_sample_are_not_added_up(run: Callable[..., Any]) -> None:
    """Many steps of 20 ms while the watch is kept from the interpreter's lock are no step of 50 ms."""

    async def short() -> None:
        burn(0.02)

    async def work(seen: Watched) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(2.0)  # another thread gets the lock only where the loop waits
        try:
            for _ in range(20):
                await asyncio.create_task(short())
        finally:
            sys.setswitchinterval(interval)
        await asyncio.sleep(0.2)

    assert watched(run, work).held == []


@RUNNERS
def test_a_task_looks_like_its_own_coroutine(run: Callable[..., Any]) -> None:
    """Libraries inspect the coroutine of a task: anyio asks for its state when it cancels."""
    states: list[tuple[str, bool]] = []
    ended: list[BaseException | None] = []

    async def waits() -> None:
        await asyncio.sleep(60)

    async def work(seen: Watched) -> None:
        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        coroutine: Any = task.get_coro()
        states.append((inspect.getcoroutinestate(coroutine), "waits() running at" in repr(task)))
        with anyio.move_on_after(0.01):
            async with anyio.create_task_group() as group:
                group.start_soon(waits)
        never = asyncio.create_task(waits())
        for one in (task, never):  # the second has not begun: nobody may warn that it was not awaited
            one.cancel()
        ended.extend(await asyncio.gather(task, never, return_exceptions=True))

    watched(run, work)
    assert states == [(inspect.CORO_SUSPENDED, True)]
    assert [type(one) for one in ended] == [asyncio.CancelledError] * 2
