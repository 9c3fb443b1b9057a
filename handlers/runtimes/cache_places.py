"""Admission of requests to the KV cache, and their preemption. Pure.

A request is admitted when its whole prompt fits into the free part of the cache, so that the library drops no
other request. Long requests together leave a reserve for short ones, unless a single request needs it. A
short request may overtake one that does not fit yet, a bounded number of times. When answers outgrow the
cache, the youngest request waits again; the oldest never does, so that it finishes and no two preempt each
other for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

MOST_OVERTAKEN = 32
LEAST_RESERVED_TOKENS = 1024
MOST_RESERVED_TOKENS = 4096
LONG_SHARE = 4
"""A request of more than 1/n of the reserve is long, so that n short requests fit beside long ones."""


class CacheHolder(Protocol):
    """The facts of a request that admission uses."""

    number: int
    overtaken: int

    @property
    def blocks(self) -> int: ...


Some = TypeVar("Some", bound=CacheHolder)


def reserve_tokens(context: int) -> int:
    """Tokens reserved for short requests beside the longest one: half a context, within bounds."""
    return min(max(context // 2, LEAST_RESERVED_TOKENS), MOST_RESERVED_TOKENS)


@dataclass(frozen=True, slots=True)
class Places:
    """A cache of `blocks` blocks, `reserve` of them for short requests."""

    blocks: int
    reserve: int

    def admit(self, waiting: Sequence[Some], held: Sequence[CacheHolder], leaving: int) -> list[Some]:
        """The requests of `waiting` to admit now; counts for each other one how often it was overtaken.

        `leaving` is the number of blocks that cancelled or preempted requests hold for one more step.
        """
        free = self.blocks - leaving - _sum(held)
        long = _sum([job for job in held if self._is_long(job)])
        admitted: list[Some] = []
        passed: list[Some] = []
        for job in sorted(waiting, key=_by_arrival):
            beside = not self._is_long(job) or not long or long + job.blocks <= self.blocks - self.reserve
            if job.blocks <= free and beside:
                admitted.append(job)
                free -= job.blocks
                long += job.blocks * self._is_long(job)
                for other in passed:
                    other.overtaken += 1
            elif job.overtaken >= MOST_OVERTAKEN:
                break
            else:
                passed.append(job)
        return admitted

    def put_back(self, held: Sequence[Some], waiting: Sequence[CacheHolder]) -> list[Some]:
        """The requests of `held` that have to wait again, the youngest first."""
        youngest = sorted(held, key=_by_arrival, reverse=True)
        over = _sum(held) - self.blocks
        given_up: list[Some] = []
        for job in youngest[:-1]:
            if over <= 0:
                break
            given_up.append(job)
            over -= job.blocks
        if not given_up and self._keeps_short_ones_out(held, waiting):
            given_up = [job for job in youngest if self._is_long(job)][:1]
        return given_up

    def _keeps_short_ones_out(self, held: Sequence[CacheHolder], waiting: Sequence[CacheHolder]) -> bool:
        long = [job for job in held if self._is_long(job)]
        free = self.blocks - _sum(held)
        too_many = len(long) > 1 and _sum(long) > self.blocks - self.reserve
        return too_many and any(not self._is_long(job) and job.blocks > free for job in waiting)

    def _is_long(self, job: CacheHolder) -> bool:
        return job.blocks * LONG_SHARE > self.reserve


def _sum(jobs: Sequence[CacheHolder]) -> int:
    return sum(job.blocks for job in jobs)


def _by_arrival(job: CacheHolder) -> int:
    return job.number
