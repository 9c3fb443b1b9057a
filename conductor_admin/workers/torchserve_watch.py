"""Decides from pings when a TorchServe that lives counts as silent, and when it is replaced. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

PING_EVERY_S = 2.0
PING_TIMEOUT_S = 5.0
SILENT_S = 20.0
"""Time without an answer after which TorchServe is replaced. That ends its workers, which may be serving
well, so it must be longer than any pause of a healthy JVM on a busy machine."""
LEAST_MISSES = 3
"""Pings without an answer before that: an event loop that stood still itself misses one ping, not three."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """The last answer, and the pings missed since then; times are those of `time.monotonic`."""

    heard: float
    misses: int = 0

    def after(self, now: float, *, answered: bool) -> Pulse:
        """The pulse after one more ping."""
        return Pulse(now) if answered else replace(self, misses=self.misses + 1)

    @property
    def is_silent(self) -> bool:
        return self.misses > 0

    def is_lost(self, now: float) -> bool:
        """Tell whether to give it up."""
        return self.misses >= LEAST_MISSES and now - self.heard >= SILENT_S
