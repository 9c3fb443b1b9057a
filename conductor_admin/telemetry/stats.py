"""Counts and times of generations by category, for `/stats`.

Knows numbers only; each generation is counted at its end. Takes seconds, returns milliseconds.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from handlers.wire import Usage

_KEPT = 1000  # times of the latest generations from which percentiles are taken


@dataclass(slots=True)
class _Category:
    generations: int = 0
    errors: int = 0
    queued: int = 0
    usage: Usage = field(default_factory=Usage)
    latency_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    ttft_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))


class Stats:
    """Figures since the gateway started."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._categories: defaultdict[str, _Category] = defaultdict(_Category)

    @property
    def uptime_s(self) -> float:
        return time.monotonic() - self._started

    @contextmanager
    def queued(self, slug: str) -> Iterator[None]:
        """Count a request as waiting for a worker."""
        category = self._categories[slug]
        category.queued += 1
        try:
            yield
        finally:
            category.queued -= 1

    def succeeded(self, slug: str, usage: Usage, latency_s: float, ttft_s: float | None) -> None:
        """Count a generation that ended well."""
        category = self._categories[slug]
        category.generations += 1
        category.usage += usage
        category.latency_s.append(latency_s)
        if ttft_s is not None:
            category.ttft_s.append(ttft_s)

    def failed(self, slug: str) -> None:
        """Count a generation that the server failed to give, not one with a client's mistake."""
        self._categories[slug].errors += 1

    def categories(self) -> dict[str, dict[str, Any]]:
        """The `categories` object of `/stats`."""
        found = {}
        for slug, category in self._categories.items():
            attempts = category.generations + category.errors
            found[slug] = {
                "generations": category.generations,
                "prompt_tokens": category.usage.prompt_tokens,
                "completion_tokens": category.usage.completion_tokens,
                "errors": category.errors,
                "error_rate": category.errors / attempts if attempts else 0.0,
                "latency_ms": percentiles_ms(category.latency_s),
                "ttft_ms": percentiles_ms(category.ttft_s),
                "queued": category.queued,
            }
        return found


def percentiles_ms(times_s: Sequence[float]) -> dict[str, float | None]:
    """Median and 99th percentile (nearest rank) in milliseconds, None without times."""
    ordered = sorted(times_s)
    if not ordered:
        return {"p50": None, "p99": None}
    last = len(ordered) - 1
    return {f"p{p}": round(ordered[round(last * p / 100)] * 1000, 3) for p in (50, 99)}
