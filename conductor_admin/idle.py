"""When a worker set has been idle for long enough, and how much it was used lately.

Pure functions of monotonic times in seconds; nobody here reads a clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
