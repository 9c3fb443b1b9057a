"""A pool of a few confined children behind a fair queue.

Knows engines by name and lines of bytes. It has several children, so that a slow check does not block all
others.
"""

from __future__ import annotations

from pathlib import Path

from handlers.sandbox.child import Child, ChildEnded
from handlers.sandbox.fair_queue import FairQueue, QueueBounds
from handlers.sandbox.template import PACKAGE, ChildLimits, Template

WALL_FACTOR = 5
"""Wall time of a check as a multiple of its processor time: a busy machine gives processor time late."""
KEPT_IDLE = 2
MOST_CHECKS = 500
"""Most checks of one child: memory that libraries keep after a check counts for the next check."""


class Stopped(Exception):
    """The check was stopped at its limits; the text is a sentence for the client."""


class Pool:
    """Makes children when they are needed and keeps `KEPT_IDLE` of them idle. For one event loop only."""

    def __init__(self, limits: ChildLimits, bounds: QueueBounds, package: Path = PACKAGE) -> None:
        self._limits = limits
        self._queue = FairQueue(bounds)
        self._template = Template(limits, package)
        self._idle: list[Child] = []

    async def ask(self, client: str, engine: str, line: bytes, cpu_s: float | None = None) -> bytes:
        """A child's answer to `line`; Busy if no slot is free, Stopped if the check exceeded its limits.

        `cpu_s` is the processor time that `line` itself allows, by default the limit of every check.

        Cancelling it leaves the queue, or ends the child that works on it.
        """
        seconds = self._limits.cpu_s if cpu_s is None else cpu_s
        async with self._queue.place(client):
            try:
                return await self._asked(self._known(engine), engine, line, seconds)
            except ChildEnded as ended:
                if ended.at_limit:
                    raise self._stopped(seconds) from ended
            try:  # the child ended before its limit or while idle, perhaps not due to this text: try again
                return await self._asked(None, engine, line, seconds)
            except ChildEnded as ended:
                raise self._stopped(seconds) from ended

    def close(self) -> None:
        """Ends all processes; the next `ask` starts them again."""
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
        """An idle child that has the engine's libraries, or None.

        Ends an idle one to make room for a new child.
        """
        for place, child in enumerate(self._idle):
            if engine in child.knows:
                return self._idle.pop(place)
        if len(self._idle) >= KEPT_IDLE:
            self._idle.pop(0).end()
        return None

    def _stopped(self, cpu_s: float) -> Stopped:
        most = f"{cpu_s:g} s or {self._limits.memory >> 20} MB"
        return Stopped(f"the check was stopped: it needs more than {most}")
