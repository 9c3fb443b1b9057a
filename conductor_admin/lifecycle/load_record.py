"""Record of one load of a worker set: its phases, its place in the queue, the sets evicted for it.

The lifecycle writes it; traces and metrics read it to explain why a request was slow. Times are monotonic
seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Result = Literal["ready", "failed", "refused", "cancelled"]
EvictionReason = Literal["memory", "overrun", "out_of_memory"]
"""Reason of an eviction: another set needed the memory, loaded sets had grown beyond the budget, or memory
ran out during a load.
"""

_MOST = 32  # phases and evictions of one load that are kept


@dataclass(slots=True, eq=False)
class LoadRecord:
    """One load from its beginning to its end; `place` is its first (position, length) of the memory queue."""

    set_name: str
    clock: Callable[[], float] = time.monotonic
    result: Result | None = None
    place: tuple[int, int] | None = None
    evicted: list[tuple[str, EvictionReason]] = field(default_factory=list)
    began: float = field(init=False)
    ended: float | None = None
    _phases: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = self.clock()

    @property
    def seconds(self) -> float:
        """Seconds that the load took, or has taken so far."""
        return (self.clock() if self.ended is None else self.ended) - self.began

    @property
    def is_restart(self) -> bool:
        """True if the load only waits for TorchServe to restart a lost worker."""
        return bool(self._phases) and self._phases[0][0] == "restart"

    def enter(self, phase: str) -> None:
        """Begin a phase; repeating the current one changes nothing."""
        known = self._phases
        if self.ended is None and len(known) < _MOST and (not known or known[-1][0] != phase):
            known.append((phase, self.clock()))

    def queued(self, position: int, queue: int) -> None:
        """Record the place in the queue for memory; only the first call counts."""
        self.place = self.place or (position, queue)

    def took_the_place_of(self, name: str, why: EvictionReason) -> None:
        """Record that another set was evicted for this load."""
        if len(self.evicted) < _MOST:
            self.evicted.append((name, why))

    def end(self, result: Result) -> None:
        self.ended, self.result = self.clock(), result

    def to_json(self) -> dict[str, Any]:
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
class QueueWait:
    """Causes of a request's wait: loads, and `ahead` requests that were waiting for its set already."""

    ahead: int = 0
    loads: list[LoadRecord] = field(default_factory=list)

    def joins(self, load_record: LoadRecord | None) -> None:
        """Record that the request waits for this load."""
        if load_record and load_record not in self.loads and len(self.loads) < _MOST:
            self.loads.append(load_record)


class LifecycleListener(Protocol):
    """Listener for events of worker sets, by the sets' names; its methods must neither fail nor wait."""

    def load_ended(self, load_record: LoadRecord) -> None: ...

    def evicted(self, name: str, why: EvictionReason) -> None: ...

    def worker_lost(self, name: str) -> None: ...


class NullListener:
    """A LifecycleListener that does nothing."""

    def load_ended(self, load_record: LoadRecord) -> None:
        """Do nothing."""

    def evicted(self, name: str, why: EvictionReason) -> None:
        """Do nothing."""

    def worker_lost(self, name: str) -> None:
        """Do nothing."""
