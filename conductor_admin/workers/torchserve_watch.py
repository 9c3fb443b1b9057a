"""Decides from pings when a running TorchServe counts as silent and when it is replaced. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

PING_EVERY_S = 2.0
PING_TIMEOUT_S = 5.0
SILENT_S = 20.0
"""Seconds without an answer after which TorchServe is replaced. That ends its workers, which may still serve,
so it must be longer than any pause of a healthy JVM on a busy machine."""
LEAST_MISSES = 3
"""Pings without an answer before that: a gateway whose own event loop was blocked misses one, not three."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """Time of the last answer, by `time.monotonic`, and the number of pings missed since then."""

    last_answer: float
    misses: int = 0

    def after(self, now: float, *, answered: bool) -> Pulse:
        """The pulse after one more ping."""
        return Pulse(now) if answered else replace(self, misses=self.misses + 1)

    @property
    def is_silent(self) -> bool:
        return self.misses > 0

    def is_lost(self, now: float) -> bool:
        """True if TorchServe has to be replaced."""
        return self.misses >= LEAST_MISSES and now - self.last_answer >= SILENT_S
