"""Limits on refusals in the audit log: a few per address, a few in all; the rest is only counted. Pure.

A refused request costs its sender nothing, so the log must not grow with such requests. An address that is
refused often gets one line with the number of its refusals that were not written.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from conductor_admin.http.networks import network_of

OTHERS = "other addresses"

ADDRESSES = 1024
"""Number of sources that are remembered; the least recent goes first, and OTHERS gets its count."""

NAMED_SOURCES = 5
"""Number of sources that `take_counts` names; OTHERS has the rest."""


@dataclass(slots=True)
class Bucket:
    """Token bucket; `at` is the time of its last refill, `pending` the count of unwritten refusals."""

    tokens: float
    at: float
    pending: int = 0

    def refill(self, now: float, burst: float, per_s: float) -> None:
        """Add the tokens that have come back until `now`."""
        self.tokens, self.at = min(burst, self.tokens + (now - self.at) * per_s), now


class RefusalLimits:
    """The limits of one kind of refusals; times are seconds of any clock that never goes back."""

    def __init__(
        self,
        *,
        burst: float = 10,
        per_s: float = 1 / 60,
        burst_of_all: float = 100,
        of_all_per_s: float = 1 / 10,
    ) -> None:
        self._burst, self._per_s = burst, per_s
        self._burst_of_all, self._of_all_per_s = burst_of_all, of_all_per_s
        self._all: Bucket | None = None
        self._sources: OrderedDict[str, Bucket] = OrderedDict()
        self._others = 0

    def admit(self, source: str, now: float) -> int | None:
        """Number of unwritten refusals of `source` before this one; None if this one is only counted."""
        bucket = self._bucket(network_of(source), now)
        everything = self._all = self._all or Bucket(self._burst_of_all, now)
        bucket.refill(now, self._burst, self._per_s)
        everything.refill(now, self._burst_of_all, self._of_all_per_s)
        if bucket.tokens < 1 or everything.tokens < 1:
            bucket.pending += 1
            return None
        bucket.tokens -= 1
        everything.tokens -= 1
        pending, bucket.pending = bucket.pending, 0
        return pending

    def unwritten(self, source: str, count: int) -> None:
        """Count refusals again that were admitted but could not be written."""
        bucket = self._sources.get(network_of(source))
        if bucket is None:
            self._others += count
        else:
            bucket.pending += count

    def take_counts(self) -> dict[str, int]:
        """Take the numbers of unwritten refusals by source, the largest first; all counts become zero."""
        found = sorted(
            ((bucket.pending, source) for source, bucket in self._sources.items() if bucket.pending),
            reverse=True,
        )
        counts = {source: count for count, source in found[:NAMED_SOURCES]}
        others = self._others + sum(count for count, _ in found[NAMED_SOURCES:])
        self._others = 0
        for bucket in self._sources.values():
            bucket.pending = 0
        return {**counts, OTHERS: others} if others else counts

    def _bucket(self, source: str, now: float) -> Bucket:
        bucket = self._sources.get(source)
        if bucket is None:
            bucket = self._sources[source] = Bucket(self._burst, now)
            if len(self._sources) > ADDRESSES:
                self._others += self._sources.popitem(last=False)[1].pending
        self._sources.move_to_end(source)
        return bucket
