"""States of a worker set and the decisions about it, as pure functions of their arguments.

No I/O, no clock, no logging: `conductor_admin.lifecycle` acts on what is decided here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, TypeVar

from conductor_admin.worker_client import Health
from handlers.wire import WIRE_VERSION, RequestError

COOLDOWN_FIRST_S = 10.0
COOLDOWN_LONGEST_S = 300.0
REFUSED_S = 5.0
BUSY_RETRY_S = 1.0
WORTH_MOVING = 4
"""Requests more than elsewhere that are worse than reading a conversation anew."""

LOADING_RETRY_S = 5.0

_OUT_OF_MEMORY = re.compile(
    r"out of memory|MemoryError|bad_alloc|cannot allocate memory|failed to allocate|can't allocate"
    r"|failed to map segment|can't start new thread",
    re.IGNORECASE,
)


class State(StrEnum):
    """Where a worker set is in its life."""

    UNAVAILABLE = "UNAVAILABLE"
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    FAILED = "FAILED"


Phase = Literal["download", "convert", "wait", "start", "warm", "restart"]
"""What a set that is LOADING does; `wait` is for memory that others hold."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A load that failed; `until` is the monotonic time before which no request tries again.

    `code` is what requests are told; `refused` of a set that fits in no case, where waiting does not help.
    """

    message: str
    count: int
    until: float
    code: str = "model_load_failed"
    refused: bool = False


def failed(message: str, before: Failure | None, now: float) -> Failure:
    """The next failure: its cool-down is 10 s, doubled for each failure in a row, at most 5 minutes."""
    count = before.count + 1 if before else 1
    cooldown = min(COOLDOWN_FIRST_S * 2.0 ** min(count - 1, 10), COOLDOWN_LONGEST_S)
    code = "insufficient_memory" if is_out_of_memory(message) else "model_load_failed"
    return Failure(message=message, count=count, until=now + cooldown, code=code)


def refused(message: str, now: float) -> Failure:
    """The failure of a set that fits in no case; it is looked at again soon, since nothing was tried."""
    return Failure(message, 1, now + REFUSED_S, code="insufficient_memory", refused=True)


def has_cooled(failure: Failure | None, now: float) -> bool:
    """Whether it may be tried again."""
    return failure is None or now >= failure.until


def is_out_of_memory(message: str) -> bool:
    """Whether a worker's last words say that memory ran out."""
    return _OUT_OF_MEMORY.search(message) is not None


class Busy(Protocol):
    """Anything that counts the requests it is working on."""

    in_flight: int


class Named(Busy, Protocol):
    """One of them that can be told from the others."""

    pid: int


Worker = TypeVar("Worker", bound=Busy)
Known = TypeVar("Known", bound=Named)


def least_busy(workers: Iterable[Worker]) -> Worker | None:
    """The worker with the fewest requests in flight, the first of equals; None of none."""
    return min(workers, key=lambda worker: worker.in_flight, default=None)


def best_worker(workers: Iterable[Known], preferred: int | None) -> Known | None:
    """The worker with the pid `preferred`, unless it is gone or much busier than the least busy one."""
    known = list(workers)
    least = least_busy(known)
    for worker in known:
        if least and worker.pid == preferred and worker.in_flight - least.in_flight < WORTH_MOVING:
            return worker
    return least


def health_fault(health: Health, version: str) -> str | None:
    """Why a worker that answers must not be used, or None."""
    if health.wire != WIRE_VERSION:
        return (
            f"the worker speaks wire version {health.wire}, this gateway {WIRE_VERSION}: rebuild the archives"
        )
    if health.version != version:
        return f"the worker serves archive version {health.version}, expected {version}"
    return None


def load_failed(name: str, failure: Failure, now: float) -> RequestError:
    """What every waiter of a failed load gets, and who comes during its cool-down."""
    return RequestError(
        f"{name} {failure.message}" if failure.refused else f"{name} could not be loaded: {failure.message}",
        status=503,
        type="server_error",
        code=failure.code,
        retry_after_s=None if failure.refused else max(1.0, failure.until - now),
    )


def still_loading(name: str, waited_s: float, eta_s: float | None) -> RequestError:
    """What a request gets whose patience ended before the load did; the load goes on.

    `eta_s` is None where nobody knows how long it will take.
    """
    rest = "" if eta_s is None else f", for about {eta_s:.0f} s more"
    return RequestError(
        f"{name} is still loading after {waited_s:g} s; the load goes on{rest}",
        status=503,
        type="server_error",
        code="model_loading",
        retry_after_s=LOADING_RETRY_S if eta_s is None else max(1.0, eta_s),
    )


def overloaded(queue_size: int) -> RequestError:
    """What a request gets that finds the gateway full."""
    return RequestError(
        f"the server is busy: {queue_size} requests are being answered or waiting",
        status=503,
        type="server_error",
        code="server_overloaded",
        retry_after_s=BUSY_RETRY_S,
    )


def row_removed(slug: str) -> RequestError:
    """What a request gets whose row was taken out of SETTINGS.md while it waited."""
    return RequestError(
        f"{slug} is no longer in the settings",
        status=404,
        code="model_not_found",
        param="category",
    )


def loading_skipped() -> RequestError:
    """What a request for a model gets under --skip-model-loading."""
    return RequestError(
        "models are not served: the gateway was started with --skip-model-loading",
        status=503,
        type="server_error",
        code="model_loading_skipped",
    )


def shutting_down() -> RequestError:
    """What requests get that are still running when the gateway has to end."""
    return RequestError(
        "the server is shutting down",
        status=503,
        type="server_error",
        code="shutting_down",
        retry_after_s=LOADING_RETRY_S,
    )


def unloaded(name: str) -> RequestError:
    """What a request gets whose worker set was unloaded with mode=now."""
    return RequestError(
        f"{name} was unloaded",
        status=503,
        type="server_error",
        code="model_unloaded",
        retry_after_s=BUSY_RETRY_S,
    )
