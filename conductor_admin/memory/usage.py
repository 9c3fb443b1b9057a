"""Use of worker sets: when one has been idle for long enough, how much it was used, and swaps counted.

Pure functions of monotonic times in seconds; nobody here reads a clock. A swap is a load that had to unload
something first. Those that serving in order would have made come from a shadow of the memory in which every
request is served in the order of arrival, the set that was used least lately making room for the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from conductor_admin.memory.policy import Bytes, lack, total

HALF_LIFE_S = 600.0
"""After so many seconds a request counts half in `Use.recent`."""


@dataclass(frozen=True, slots=True)
class Idleness:
    """How long a set may be idle; `stays` is true of sets that no idle time ends."""

    timeout_s: float
    stays: bool

    def expires(self, now: float, keep_alive_s: float | None = None, *, may_shorten: bool = True) -> float:
        """When a set that became READY, or whose request ended, at `now` is to be unloaded; infinite: never.

        A request's own `keep_alive_s` counts instead of the timeout: 0 is at once, below 0 never. Whichever
        request ends last decides. Without `may_shorten` it counts only where it is the longer one.
        """
        if self.stays:
            return math.inf
        wait_s = self.timeout_s if keep_alive_s is None else keep_alive_s
        if not may_shorten and 0 <= wait_s < self.timeout_s:
            wait_s = self.timeout_s
        return math.inf if wait_s < 0 else now + wait_s


@dataclass(frozen=True, slots=True)
class Use:
    """Requests lately: `count` as it was at the monotonic time `at`."""

    count: float = 0.0
    at: float = 0.0

    def recent(self, now: float) -> float:
        """The count at `now`, older requests weighing less."""
        return float(self.count * 0.5 ** (max(0.0, now - self.at) / HALF_LIFE_S))

    def another(self, now: float) -> Use:
        """After one more request."""
        return Use(self.recent(now) + 1.0, now)


class Swaps:
    """Swaps since the start; `made` is counted by whoever evicts."""

    def __init__(self, budget: Bytes) -> None:
        self.made = 0
        self._in_order = 0
        self._budget = budget
        self._shadow: dict[str, Bytes] = {}

    @property
    def avoided(self) -> int:
        """Swaps that answering requests strictly in order would have made beyond those that were."""
        return max(0, self._in_order - self.made)

    def asked(self, name: str, memory: Bytes) -> None:
        """A request for the set `name` has come."""
        known = self._shadow.pop(name, None)
        if known is None and self._make_room(memory):
            self._in_order += 1
        self._shadow[name] = memory

    def ended(self, name: str) -> None:
        """The set was unloaded for a reason of its own, not for another one's sake."""
        self._shadow.pop(name, None)

    def _make_room(self, memory: Bytes) -> bool:
        swapped = False
        while self._shadow and lack(total([memory, *self._shadow.values()]), self._budget):
            self._shadow.pop(next(iter(self._shadow)))
            swapped = True
        return swapped
