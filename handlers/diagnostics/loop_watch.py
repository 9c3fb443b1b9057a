"""Watches an event loop and reports each step that blocked it, with its wall and processor time.

Steps of tasks are measured exactly (`handlers.diagnostics.task_steps`). For all else, and for the line of a
long step, a thread samples the loop's thread, in a worker less often: callbacks of uvloop cannot be measured.
The reported times of callbacks are lower bounds: time counts only if two samples saw that callback, or if a
sample was late because the callback held the interpreter's lock. Reports have names of code and tasks, never
a text of a request.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from handlers.diagnostics.task_steps import MEASURING, StepClock, TaskStep

LIMIT_S = 0.05
"""Longest step that is not reported, in seconds."""
STUCK_S = 1.0
"""Seconds after which a step is reported while it still runs, because it may never end."""
BUSY_S, IDLE_S = 0.01, 0.025
"""Seconds between two samples. One costs 50 microseconds, mostly in the kernel: 0.2 % of a core when idle."""
SPARING_S = 0.25
"""The same beside a library that computes on all cores.

A sample takes a core from its threads while they wait for each other, and waits for the interpreter's lock:
with one every 10 ms, openvino-genai used 14 % more processor time for a token (issue 11).
"""
SILENCE_S = 60.0
"""Seconds between two log lines about the same position and route."""

_OWN = ("handlers", "conductor", "conductor_admin", "conductor_core", "conductor_mcp", "archives")
_WAITED = "/proc/thread-self/schedstat"


@dataclass(frozen=True, slots=True)
class LoopStall:
    """One long step of a loop: `place` is the line of this project's code in which it was seen.

    `task` is the name of its task, or None; `route` is the request's route, if known. `seconds` and `cpu_s`
    are lower bounds of a callback or of a step that is not over; `is_over` is True if the step has ended.
    """

    step: str
    place: str
    task: str | None
    route: str | None
    seconds: float
    cpu_s: float
    is_over: bool = True


OnStall = Callable[[LoopStall], None]
Waited = Callable[[float], None]
RouteOf = Callable[[asyncio.Task[Any]], str | None]


@dataclass(slots=True)
class _Step:
    """The step in the latest samples; `beat` is the number of its loop iteration.

    `is_exact` is True for a step of a measured task, whose end the step clock reports.
    """

    key: float
    beat: int
    name: str
    task: str | None
    route: str | None
    began: float
    cpu_began: float
    is_exact: bool
    place: str = ""
    seconds: float = 0.0
    cpu_s: float = 0.0
    is_reported: bool = False

    def held(self, *, is_over: bool) -> LoopStall:
        return LoopStall(self.name, self.place, self.task, self.route, self.seconds, self.cpu_s, is_over)


@dataclass(frozen=True, slots=True)
class _Look:
    """Clocks of one sample: wall time, CPU time of the loop's thread, and this thread's wait for a core."""

    at: float
    cpu: float
    waited: float


class LoopWatch:
    """Watches the loop that calls `start`; calls `on_stall`, on its own thread, for steps above `LIMIT_S`.

    `lag` gets the seconds that a callback waited, once in each loop iteration that a sample found busy.
    `route_of` gives the route of a request's task. Callbacks below twice the pause between two samples,
    `busy_s` or `idle_s` seconds, may stay unseen.
    """

    def __init__(
        self,
        on_stall: OnStall,
        lag: Waited | None = None,
        route_of: RouteOf | None = None,
        *,
        busy_s: float = BUSY_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._on_stall = on_stall
        self._lag = lag
        self._route_of = route_of
        self._busy_s = busy_s
        self._idle_s = idle_s
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="loop-watch", daemon=True)
        self._step: _Step | None = None
        self._long: deque[TaskStep] = deque()
        self._clock_of_steps = StepClock(LIMIT_S, self._long.append)
        self._seen = (0.0, "")  # begin and place of the latest long step of a task that a sample saw
        self._sent = self._ran = 0
        self._sent_at = 0.0

    def start(self) -> None:
        """Starts the watch, which measures tasks that are made from now on; call it on the loop's thread."""
        self._loop = asyncio.get_running_loop()
        self._clock_of_steps.install(self._loop)
        self._ident = threading.get_ident()
        self._clock = time.pthread_getcpuclockid(self._ident)
        self._loop.call_soon(self._begin)

    def stop(self) -> None:
        """Ends the watch; callable from any thread."""
        self._stopping = True
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._tell_long_steps()

    def _begin(self) -> None:
        # The caller of callbacks: asyncio's Handle._run, or the caller of the loop with uvloop, which has no
        # frames.
        self._base = sys._getframe(1).f_code
        if not self._stopping:
            self._thread.start()

    def _run(self) -> None:
        waiting = _core_wait()
        pause, before = self._idle_s, self._clocks(waiting)
        while not self._stopping:
            time.sleep(pause)
            try:
                now = self._clocks(waiting)
            except OSError:  # the loop's thread has ended
                return
            pause, before = self._look(before, now, pause), now
            self._tell_long_steps()

    def _clocks(self, waiting: Callable[[], float]) -> _Look:
        return _Look(time.perf_counter(), time.clock_gettime(self._clock), waiting())

    def _look(self, before: _Look, now: _Look, pause: float) -> float:
        frame = sys._current_frames().get(self._ident)
        outer = _outermost(frame, self._base)
        if outer is None:
            self._end()
            return self._idle_s
        task = asyncio.current_task(self._loop)
        began = self._clock_of_steps.began
        if began:
            key, is_new = began, False
        else:
            # A task that is older than the watch has one step in a loop iteration. A plain callback may run
            # often in one, and the next call's frame may have the same address, but not this mark, an
            # attribute that only debuggers read.
            key, is_new = float(id(task or outer)), task is None and not outer.f_trace_opcodes
            outer.f_trace_opcodes = True
        step = self._step
        if step is None or is_new or step.key != key or (not began and step.beat != self._ran):
            self._end()
            step = self._step = self._new(key, outer, task, before, now, pause)
        step.seconds, step.cpu_s = now.at - step.began, now.cpu - step.cpu_began
        if step.seconds >= LIMIT_S and not step.place:
            step.place = _place(frame, outer)
            if step.is_exact:
                self._seen = (step.began, step.place)
        if step.seconds >= STUCK_S and not step.is_reported:
            step.is_reported = True
            self._on_stall(step.held(is_over=False))
        return self._busy_s

    def _new(
        self,
        key: float,
        outer: FrameType,
        task: asyncio.Task[Any] | None,
        before: _Look,
        now: _Look,
        pause: float,
    ) -> _Step:
        if self._sent == self._ran:
            self._sent, self._sent_at = self._sent + 1, now.at
            with suppress(RuntimeError):  # the loop has been closed
                self._loop.call_soon_threadsafe(self._beat)
        name = None if task is None else task.get_name()
        clock = self._clock_of_steps
        if clock.began:
            began, cpu_began = clock.began, clock.cpu_began
        else:
            # This sample was due after `pause`. It waited longer for a core (measured) or else for the
            # interpreter's lock. Steps of tasks have ended before, and this one began later.
            late = max(0.0, now.at - before.at - pause - (now.waited - before.waited))
            cpu = min(late, max(0.0, now.cpu - before.cpu - pause))
            began, cpu_began = max(clock.ended, now.at - late), max(clock.cpu_ended, now.cpu - cpu)
        return _Step(
            key,
            self._ran,
            _step_name(task, outer),
            name,
            self._route(task),
            began,
            cpu_began,
            is_exact=bool(clock.began),
        )

    def _route(self, task: asyncio.Task[Any] | None) -> str | None:
        return None if task is None or self._route_of is None else self._route_of(task)

    def _tell_long_steps(self) -> None:
        while self._long:
            step = self._long.popleft()
            name = _coroutine_name(step.coroutine)
            place = self._seen[1] if self._seen[0] == step.began else name
            task = None if step.task is None else step.task.get_name()
            self._on_stall(LoopStall(name, place, task, self._route(step.task), step.seconds, step.cpu_s))

    def _beat(self) -> None:
        self._ran += 1
        if self._lag is not None:
            self._lag(time.perf_counter() - self._sent_at)

    def _end(self) -> None:
        step, self._step = self._step, None
        if step is not None and step.seconds >= LIMIT_S and not step.is_exact:
            self._on_stall(step.held(is_over=True))


@dataclass(slots=True)
class Holds:
    """Counts long steps of one loop, and decides which of them are logged."""

    count: int = 0
    longest_s: float = 0.0
    _next: dict[tuple[str | None, str], float] = field(default_factory=dict)

    def add(self, held: LoopStall) -> bool:
        """Counts `held`; True if it is to be logged."""
        if held.is_over:
            self.count += 1
            self.longest_s = max(self.longest_s, held.seconds)
        now = time.monotonic()
        what = (held.route, held.place)
        if now < self._next.get(what, now):
            return False
        self._next[what] = now + SILENCE_S
        return True


def _coroutine_name(coroutine: Any) -> str:
    code = getattr(coroutine, "cr_code", None)
    return str(coroutine) if code is None else _name(code)


def _step_name(task: asyncio.Task[Any] | None, outer: FrameType) -> str:
    return _name(outer.f_code) if task is None else _coroutine_name(task.get_coro())


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _outermost(frame: FrameType | None, base: CodeType) -> FrameType | None:
    """The outermost frame of the step, directly above the loop's; None while the loop is idle."""
    above = None
    for one in _frames(frame):
        if one.f_code is base:
            return above
        above = one
    return None


def _place(frame: FrameType | None, outer: FrameType) -> str:
    """The innermost line of this project's code in the step, else the innermost line."""
    seen: list[FrameType] = []
    for one in _frames(frame):
        seen += [one] if one.f_code not in MEASURING else []
        if one is outer:
            break
    found = next((one for one in seen if _package(one.f_code) in _OWN), seen[0] if seen else outer)
    return f"{_name(found.f_code)}:{found.f_lineno}"


def _package(code: CodeType) -> str:
    parts = Path(code.co_filename).parts
    return next((part for part in parts[::-1] if part in _OWN), "")


def _name(code: CodeType) -> str:
    parts = Path(code.co_filename).with_suffix("").parts
    package = _package(code)
    start = len(parts) - 1 - parts[::-1].index(package) if package else max(0, len(parts) - 2)
    return f"{'.'.join(parts[start:])}.{code.co_qualname}"


def _core_wait() -> Callable[[], float]:
    """A function for the seconds that the calling thread has waited for a core.

    0 if the kernel does not tell.
    """
    try:
        file = os.open(_WAITED, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return lambda: 0.0

    def waited() -> float:
        return int(os.pread(file, 64, 0).split()[1]) / 1e9

    return waited
