"""States of a worker set and the decisions about it, as pure functions of their arguments.

No I/O, no clock, no logging: `conductor_admin.lifecycle.loads` acts on what is decided here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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


class Event(StrEnum):
    """Event that changes the state of a worker set."""

    LOAD_BEGAN = "load began"
    LOADED = "loaded"
    LOAD_FAILED = "load failed"
    LOAD_REFUSED = "load refused"
    LOAD_CANCELLED = "load cancelled"
    WORKERS_LOST = "workers lost"
    UNLOAD_BEGAN = "unload began"
    UNLOADED = "unloaded"
    FAILURE_FORGOTTEN = "failure forgotten"


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.UNAVAILABLE, Event.LOAD_BEGAN): State.LOADING,
    (State.FAILED, Event.LOAD_BEGAN): State.LOADING,
    (State.LOADING, Event.LOADED): State.READY,
    (State.LOADING, Event.LOAD_FAILED): State.FAILED,
    (State.LOADING, Event.LOAD_REFUSED): State.FAILED,
    (State.LOADING, Event.LOAD_CANCELLED): State.UNAVAILABLE,
    (State.READY, Event.WORKERS_LOST): State.LOADING,
    (State.READY, Event.UNLOAD_BEGAN): State.UNLOADING,
    (State.UNLOADING, Event.UNLOADED): State.UNAVAILABLE,
    (State.FAILED, Event.FAILURE_FORGOTTEN): State.UNAVAILABLE,
    # A replacement with the same archive took over the workers, and rows are still served here.
    (State.READY, Event.LOAD_BEGAN): State.LOADING,
    # A defect was met after the last step of a load.
    (State.READY, Event.LOAD_FAILED): State.FAILED,
    # The job before broke off on a defect.
    (State.LOADING, Event.LOAD_BEGAN): State.LOADING,
    (State.LOADING, Event.UNLOAD_BEGAN): State.UNLOADING,
    (State.UNLOADING, Event.LOAD_BEGAN): State.LOADING,
    (State.UNLOADING, Event.UNLOAD_BEGAN): State.UNLOADING,
}
"""All transitions of a worker set: the state after an event. docs/lifecycle.md says what they do."""


def state_after(state: State, event: Event) -> State:
    """The next state. KeyError if the event cannot happen in `state`: a defect."""
    return TRANSITIONS[state, event]


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
