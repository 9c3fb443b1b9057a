"""States of a worker set and the decisions about it, as pure functions of their arguments.

No I/O, no clock, no logging: `conductor_admin.lifecycle.lifecycle` acts on what is decided here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

COOLDOWN_FIRST_S = 10.0
COOLDOWN_LONGEST_S = 300.0
REFUSED_S = 5.0

_OUT_OF_MEMORY = re.compile(
    r"out of memory|MemoryError|bad_alloc|cannot allocate memory|failed to allocate|can't allocate"
    r"|failed to map segment|can't start new thread",
    re.IGNORECASE,
)


class State(StrEnum):
    """State of a worker set."""

    UNAVAILABLE = "UNAVAILABLE"
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Failure:
    """A load that failed; `until` is the monotonic time before which no request tries again.

    `code` is the error code of requests; `refused` marks a set that can never fit: waiting is useless.
    """

    message: str
    count: int
    until: float
    code: str = "model_load_failed"
    refused: bool = False


def failed(message: str, before: Failure | None, now: float) -> Failure:
    """The next failure; its cool-down is 10 s, doubled for each failure in a row, at most 5 minutes."""
    count = before.count + 1 if before else 1
    cooldown = min(COOLDOWN_FIRST_S * 2.0 ** min(count - 1, 10), COOLDOWN_LONGEST_S)
    code = "insufficient_memory" if is_out_of_memory(message) else "model_load_failed"
    return Failure(message=message, count=count, until=now + cooldown, code=code)


def refused(message: str, now: float) -> Failure:
    """The failure of a set that can never fit; its cool-down is short, because nothing was tried."""
    return Failure(message, 1, now + REFUSED_S, code="insufficient_memory", refused=True)


def has_cooled(failure: Failure | None, now: float) -> bool:
    """True if the load may be tried again."""
    return failure is None or now >= failure.until


def is_out_of_memory(message: str) -> bool:
    """True if a worker's last message says that memory ran out."""
    return _OUT_OF_MEMORY.search(message) is not None
