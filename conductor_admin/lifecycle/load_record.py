"""What happened in one load of a worker set: its phases, its place in the queue, what went for its sake.

Written by the lifecycle's own modules, read by whoever explains why a request was slow. Times are monotonic
seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Result = Literal["ready", "failed", "refused", "cancelled"]
Why = Literal["memory", "overrun", "out_of_memory"]
"""Why a set was unloaded that nobody asked to unload: another one needed its room, loaded sets had grown
beyond the budget, or memory ran out in the middle of a load.
"""

_MOST = 32  # phases and evictions of one load that are kept


@dataclass(slots=True, eq=False)
class LoadStory:
    """One load, from its first step to its end; `place` is its first one of how many that wait for memory."""

    set_name: str
    clock: Callable[[], float] = time.monotonic
    result: Result | None = None
    place: tuple[int, int] | None = None
    evicted: list[tuple[str, Why]] = field(default_factory=list)
    began: float = field(init=False)
    ended: float | None = None
    _phases: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = self.clock()

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return (self.clock() if self.ended is None else self.ended) - self.began

    @property
    def is_restart(self) -> bool:
        """Whether it only waits for TorchServe to start a lost worker again."""
        return bool(self._phases) and self._phases[0][0] == "restart"

    def enter(self, phase: str) -> None:
        """The load does something else now; saying the same again changes nothing."""
        known = self._phases
        if self.ended is None and len(known) < _MOST and (not known or known[-1][0] != phase):
            known.append((phase, self.clock()))

    def queued(self, position: int, queue: int) -> None:
        """It waits for memory at that place; the first one counts."""
        self.place = self.place or (position, queue)

    def took_the_place_of(self, name: str, why: Why) -> None:
        """Another set was unloaded for its sake."""
        if len(self.evicted) < _MOST:
            self.evicted.append((name, why))

    def end(self, result: Result) -> None:
        self.ended, self.result = self.clock(), result

    def as_json(self) -> dict[str, Any]:
        """`{set, result, seconds, phases: [{phase, seconds}], queue_position, evicted: [{set, reason}]}`."""
        ends = [at for _, at in self._phases[1:]] + [self.began + self.seconds]
        return {
            "set": self.set_name,
            "result": self.result,
            "seconds": round(self.seconds, 4),
            "phases": [
                {"phase": phase, "seconds": round(end - at, 4)}
                for (phase, at), end in zip(self._phases, ends, strict=False)
            ],
            "queue_position": self.place and self.place[0],
            "queue_length": self.place and self.place[1],
            "evicted": [{"set": name, "reason": why} for name, why in self.evicted],
        }


@dataclass(slots=True)
class Wait:
    """What a request has waited for: loads, and `ahead` requests that were waiting for its set already."""

    ahead: int = 0
    loads: list[LoadStory] = field(default_factory=list)

    def joins(self, story: LoadStory | None) -> None:
        """It waits for this load now."""
        if story and story not in self.loads and len(self.loads) < _MOST:
            self.loads.append(story)


class SetWatcher(Protocol):
    """Who is told of what happens to worker sets, by the sets' names; it must not fail and not wait."""

    def load_ended(self, story: LoadStory) -> None: ...

    def evicted(self, name: str, why: Why) -> None: ...

    def worker_lost(self, name: str) -> None: ...


class Unwatched:
    """A SetWatcher that takes no notice."""

    def load_ended(self, story: LoadStory) -> None:
        """Take no notice."""

    def evicted(self, name: str, why: Why) -> None:
        """Take no notice."""

    def worker_lost(self, name: str) -> None:
        """Take no notice."""
