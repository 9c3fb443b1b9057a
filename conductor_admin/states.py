"""States of a worker set and the decisions about it, as pure functions of their arguments.

No I/O, no clock, no logging: `conductor_admin.lifecycle` acts on what is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, TypeVar

from conductor_admin.worker_client import Health
from handlers.wire import WIRE_VERSION, RequestError

COOLDOWN_FIRST_S = 10.0
COOLDOWN_LONGEST_S = 300.0
BUSY_RETRY_S = 1.0
LOADING_RETRY_S = 5.0


class State(StrEnum):
    """Where a worker set is in its life."""

    UNAVAILABLE = "UNAVAILABLE"
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    FAILED = "FAILED"


Phase = Literal["download", "convert", "start", "warm", "restart"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A load that failed; `until` is the monotonic time before which no request tries again."""

    message: str
    count: int
    until: float


def failed(message: str, before: Failure | None, now: float) -> Failure:
    """The next failure: its cool-down is 10 s, doubled for each failure in a row, at most 5 minutes."""
    count = before.count + 1 if before else 1
    cooldown = min(COOLDOWN_FIRST_S * 2.0 ** min(count - 1, 10), COOLDOWN_LONGEST_S)
    return Failure(message=message, count=count, until=now + cooldown)


class Busy(Protocol):
    """Anything that counts the requests it is working on."""

    in_flight: int


Worker = TypeVar("Worker", bound=Busy)


def least_busy(workers: Iterable[Worker]) -> Worker | None:
    """The worker with the fewest requests in flight, the first of equals; None of none."""
    return min(workers, key=lambda worker: worker.in_flight, default=None)


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
    retry = max(1.0, failure.until - now)
    return RequestError(
        f"{name} could not be loaded: {failure.message}",
        status=503,
        type="server_error",
        code="model_load_failed",
        retry_after_s=retry,
    )


def still_loading(name: str, waited_s: float) -> RequestError:
    """What a request gets whose patience ended before the load did; the load goes on."""
    return RequestError(
        f"{name} is still loading after {waited_s:g} s; the load goes on",
        status=503,
        type="server_error",
        code="model_loading",
        retry_after_s=LOADING_RETRY_S,
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
