"""Use of worker sets: end by idleness, weight of recent requests, and numbers of swaps.

Pure functions of monotonic times in seconds; nothing here reads a clock. A swap is a load that had to unload
other sets first. Avoided swaps are found with a simulated memory that serves all requests in order of arrival
and evicts the least recently used set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from conductor_admin.memory.policy import DeviceBytes, positive_difference, total

HALF_LIFE_S = 600.0
"""Seconds after which a request counts half in `Use.recent`."""


@dataclass(frozen=True, slots=True)
class Idleness:
    """Idle time of a set in seconds; sets that `stays` is true of are never unloaded for idleness."""

    timeout_s: float
    stays: bool

    def expires(self, now: float, keep_alive_s: float | None = None, *, may_shorten: bool = True) -> float:
        """Time at which a set is unloaded that became READY or ended a request at `now`; infinity is never.

        A request's own `keep_alive_s` replaces the timeout: 0 is at once, negative is never. The request that
        ends last decides. Without `may_shorten` only a longer time counts.
        """
        if self.stays:
            return math.inf
        wait_s = self.timeout_s if keep_alive_s is None else keep_alive_s
        if not may_shorten and 0 <= wait_s < self.timeout_s:
            wait_s = self.timeout_s
        return math.inf if wait_s < 0 else now + wait_s


@dataclass(frozen=True, slots=True)
class Use:
    """Weighted number of recent requests: `count` at the monotonic time `at`."""

    count: float = 0.0
    at: float = 0.0

    def recent(self, now: float) -> float:
        """The count at `now`; older requests weigh less."""
        return float(self.count * 0.5 ** (max(0.0, now - self.at) / HALF_LIFE_S))

    def another(self, now: float) -> Use:
        """The use after one more request."""
        return Use(self.recent(now) + 1.0, now)


class Swaps:
    """Numbers of swaps since the start; the memory admission counts `made`."""

    def __init__(self, budget: DeviceBytes) -> None:
        self.made = 0
        self._in_order = 0
        self._budget = budget
        self._shadow: dict[str, DeviceBytes] = {}

    @property
    def avoided(self) -> int:
        """Number of swaps saved compared with serving requests strictly in order."""
        return max(0, self._in_order - self.made)

    def asked(self, name: str, memory: DeviceBytes) -> None:
        """Count a request for the set `name`, which needs `memory`."""
        known = self._shadow.pop(name, None)
        if known is None:
            is_swap = False
            while self._shadow and positive_difference(total([memory, *self._shadow.values()]), self._budget):
                self._shadow.pop(next(iter(self._shadow)))
                is_swap = True
            self._in_order += is_swap
        self._shadow[name] = memory

    def ended(self, name: str) -> None:
        """Remove a set that was unloaded for idleness, not by an eviction."""
        self._shadow.pop(name, None)
