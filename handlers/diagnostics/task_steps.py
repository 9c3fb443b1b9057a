"""Measures each step of a loop's tasks exactly, and charges its processor time to the account of its request.

A task factory wraps the coroutine of each new task; a step costs 2.4 microseconds more. Callbacks are not
measured here, because uvloop has no place for that. Knows nothing of requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from time import perf_counter, thread_time
from typing import Any, TypeVar

from handlers.cpu_account import cpu_account

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TaskStep:
    """A long step of a task that has ended: when it began by the wall clock, and what it used in seconds."""

    began: float
    seconds: float
    cpu_s: float
    task: asyncio.Task[Any] | None
    coroutine: Coroutine[Any, Any, Any]


class StepClock:
    """Clock of the steps of one loop: wall time and processor time of its thread, in seconds.

    `began` and `cpu_began` are those of the running step of a task, 0 if none runs; `ended` and `cpu_ended`
    those of the latest end of one. `long` gets each step of at least `limit_s` wall seconds, on the loop's
    thread.
    """

    __slots__ = ("_limit_s", "_long", "began", "cpu_began", "cpu_ended", "ended")

    def __init__(self, limit_s: float, long: Callable[[TaskStep], None]) -> None:
        self.began = self.cpu_began = self.ended = self.cpu_ended = 0.0
        self._limit_s = limit_s
        self._long = long

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Measure the tasks that `loop` makes from now on."""
        loop.set_task_factory(self._task)  # type: ignore[arg-type]

    def _task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], **named: Any
    ) -> asyncio.Task[T]:
        return asyncio.Task(MeasuredCoroutine(coroutine, self), loop=loop, **named)

    def end(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """End the running step, which was one of `coroutine`."""
        began, self.began = self.began, 0.0
        self.ended, self.cpu_ended = perf_counter(), thread_time()
        account = cpu_account.get()
        if account is not None:
            account.charge(self.cpu_ended - self.cpu_began)
        if self.ended - began >= self._limit_s:
            step = TaskStep(
                began, self.ended - began, self.cpu_ended - self.cpu_began, asyncio.current_task(), coroutine
            )
            self._long(step)


class MeasuredCoroutine(Coroutine[Any, Any, T]):
    """A coroutine whose steps `clock` measures; looks like `inner` to those who inspect it."""

    __slots__ = ("__name__", "__qualname__", "_clock", "_inner")

    def __init__(self, inner: Coroutine[Any, Any, T], clock: StepClock) -> None:
        self._inner = inner
        self._clock = clock
        self.__name__ = getattr(inner, "__name__", type(inner).__name__)
        self.__qualname__ = getattr(inner, "__qualname__", type(inner).__qualname__)

    def __getattr__(self, name: str) -> Any:
        # cr_frame, cr_running, cr_await and the like, which anyio and tracebacks read.
        return getattr(self._inner, name)

    def __await__(self) -> Generator[Any, Any, T]:
        return self._inner.__await__()

    def send(self, value: Any) -> Any:
        """Run one step."""
        clock = self._clock
        clock.began, clock.cpu_began = perf_counter(), thread_time()
        try:
            return self._inner.send(value)
        finally:
            clock.end(self._inner)

    def throw(self, *error: Any) -> Any:
        """Run one step that begins with an exception."""
        clock = self._clock
        clock.began, clock.cpu_began = perf_counter(), thread_time()
        try:
            return self._inner.throw(*error)
        finally:
            clock.end(self._inner)

    def close(self) -> None:
        """End the coroutine."""
        self._inner.close()


MEASURING = (MeasuredCoroutine.send.__code__, MeasuredCoroutine.throw.__code__)
"""The code of the frames below each measured step, which are no part of it."""
