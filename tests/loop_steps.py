"""Measures every step of every event loop of a test process by the processor time of the loop's own thread.

A busy machine does not change that time. Not counted are imports, which happen once in a process; the garbage
collector, which here visits all modules of pytest; and the work of a test itself, in the task that runs it
(it builds applications and large texts there, and sends floods), or inside `own_work`.
"""

from __future__ import annotations

import asyncio
import builtins
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass
from typing import Any

import uvloop

from handlers.diagnostics.loop_watch import LIMIT_S

EXCEPTED = {
    "conductor_mcp/test_mcp_shared_gateway.py::": "runs clients on loops of their own",
    "test_engines.py::test_data_analysis": "calls the check itself, which the gateway leaves to a process",
    "engines/test_engines_property.py::": "calls checks themselves, which the gateway leaves to a process",
    "test_slow_readers.py::test_a_closed_connection_with_unread_bytes_is_cut": "its fake says 20 MB at once",
}
"""Tests whose own steps are long, by a part of their name, with the reason."""

LIBRARYS_OWN = "openvino-step"
"""The task that steps openvino-genai, which holds the interpreter's lock during the whole step."""


def is_excepted(test: str) -> bool:
    """True if the own steps of this test may be long."""
    return any(name in test for name in EXCEPTED)


class LoopHeldError(AssertionError):
    """Steps of an event loop took 50 ms of processor time.

    A step whose work is too long is so each time. On a virtual machine it may be so once, probably because
    work of the host for the guest, such as bringing in a page of memory, counts as processor time. In CI a
    single `send` to a local socket took 89 ms, and never again. So pytest runs such a test again, and no test
    that fails in another way.
    """


@dataclass(frozen=True, slots=True)
class Held:
    """A step that was too long: the name of its task or callback, and its processor time in seconds.

    `coroutine` is the qualified name of the task's coroutine.
    """

    step: str
    cpu_s: float
    coroutine: str = ""


class _Taken(threading.local):
    """Seconds of this thread that do not count for any step."""

    seconds = 0.0
    depth = 0


_taken = _Taken()
_held: list[Held] = []
_collecting = threading.local()


def take_held(besides: str = "") -> list[Held]:
    """The too long steps since the last call, except those of tasks that run `besides`."""
    held = [one for one in _held if not besides or one.coroutine != besides]
    _held.clear()
    return held


@contextmanager
def own_work(reason: str) -> Iterator[None]:
    """Excludes a block of a test from its steps, such as building a large input; `reason` describes it."""
    assert reason
    with _taking():
        yield


@contextmanager
def _taking() -> Iterator[None]:
    _taken.depth += 1
    begun = time.thread_time()
    try:
        yield
    finally:
        _taken.depth -= 1
        if _taken.depth == 0:
            _taken.seconds += time.thread_time() - begun


def _measured(name: Callable[[], tuple[str, str]], run: Callable[[], None]) -> None:
    begun, taken = time.thread_time(), _taken.seconds
    try:
        run()
    finally:
        spent = time.thread_time() - begun - (_taken.seconds - taken)
        if spent >= LIMIT_S and _taken.depth == 0:
            step, coroutine = name()
            if LIBRARYS_OWN not in step:
                _held.append(Held(step, round(spent, 3), coroutine))


def _named(callback: Any) -> tuple[str, str]:
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        coroutine = str(getattr(owner.get_coro(), "__qualname__", ""))
        return f"task {owner.get_name()} {coroutine}", coroutine
    return str(getattr(callback, "__qualname__", type(callback).__name__)), ""


class MeasuredLoop(uvloop.Loop):
    """A uvloop that measures its callbacks; only callbacks of its transports are not measured."""

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        return super().call_soon(_called, callback, *args, context=context)

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        return super().call_soon_threadsafe(_called, callback, *args, context=context)


def _called(callback: Any, *args: Any) -> None:
    _measured(lambda: _named(callback), lambda: callback(*args))


def measure_everything() -> None:
    """Measures all steps of asyncio's loops and of new uvloop loops from now on."""
    handle: Any = asyncio.Handle
    run = handle._run

    def measured(self: Any) -> None:
        callback = self._callback
        _measured(lambda: _named(callback), lambda: run(self))

    handle._run = measured
    uvloop.new_event_loop = MeasuredLoop
    gc.callbacks.append(_collected)
    plain = builtins.__import__

    def importing(name: str, *args: Any, **named: Any) -> Any:
        if name in sys.modules:
            return plain(name, *args, **named)
        with _taking():
            return plain(name, *args, **named)

    builtins.__import__ = importing


def _collected(phase: str, info: dict[str, int]) -> None:
    if phase == "start":
        _collecting.block = _taking()
        _collecting.block.__enter__()
    elif (block := getattr(_collecting, "block", None)) is not None:
        _collecting.block = None
        block.__exit__(None, None, None)
