"""A few confined children behind a fair queue: what is asked of them, and what happens where one is stopped.

Knows engines by name and lines of bytes. More than one child: a slow check would keep all others waiting.
"""

from __future__ import annotations

from pathlib import Path

from handlers.sandbox.child import Child, ChildEnded
from handlers.sandbox.fair_queue import Bounds, FairQueue
from handlers.sandbox.template import PACKAGE, Limits, Template

WALL_FACTOR = 5
"""A busy machine gives processor time late: a check may take this many times as long by the clock."""
KEPT_IDLE = 2
MOST_CHECKS = 500
"""Of one child: what libraries keep between checks would count as memory of the next."""


class Stopped(Exception):
    """The check was stopped at its limits; the text is a sentence for the client."""


class Pool:
    """Children are made when they are needed, `KEPT_IDLE` of them are kept. Used on one event loop."""

    def __init__(self, limits: Limits, bounds: Bounds, package: Path = PACKAGE) -> None:
        self._limits = limits
        self._queue = FairQueue(bounds)
        self._template = Template(limits, package)
        self._idle: list[Child] = []

    async def ask(self, client: str, engine: str, line: bytes, cpu_s: float | None = None) -> bytes:
        """The answer of a child to `line`; Busy where there is no place, Stopped where it needed too much.

        `cpu_s` is what the line itself gives the child, where that is not the limit of every check.

        Cancelling it takes it out of the queue, or ends the child that is at it.
        """
        seconds = self._limits.cpu_s if cpu_s is None else cpu_s
        async with self._queue.place(client):
            try:
                return await self._asked(self._known(engine), engine, line, seconds)
            except ChildEnded as ended:
                if ended.at_limit:
                    raise self._stopped(seconds) from ended
            try:  # it was ended before its time, or while it had nothing to do: maybe no fault of this text
                return await self._asked(None, engine, line, seconds)
            except ChildEnded as ended:
                raise self._stopped(seconds) from ended

    def close(self) -> None:
        """Ends all processes; the next question starts them again."""
        while self._idle:
            self._idle.pop().end()
        self._template.end()

    async def _asked(self, idle: Child | None, engine: str, line: bytes, cpu_s: float) -> bytes:
        child = idle or await self._template.child(engine)
        answer = await child.ask(line, cpu_s, cpu_s * WALL_FACTOR)
        child.checks += 1
        if child.is_slow or child.checks >= MOST_CHECKS or len(self._idle) >= KEPT_IDLE:
            child.end()
        else:
            self._idle.append(child)
        return answer

    def _known(self, engine: str) -> Child | None:
        """An idle child that has the engine's libraries; those that lack them give way to a new one."""
        for place, child in enumerate(self._idle):
            if engine in child.knows:
                return self._idle.pop(place)
        if len(self._idle) >= KEPT_IDLE:
            self._idle.pop(0).end()
        return None

    def _stopped(self, cpu_s: float) -> Stopped:
        most = f"{cpu_s:g} s or {self._limits.memory >> 20} MB"
        return Stopped(f"the check was stopped: it needs more than {most}")
