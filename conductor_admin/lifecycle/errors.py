"""Errors of the lifecycle: a RequestError for each reason why a request gets no worker."""

from __future__ import annotations

from conductor_admin.lifecycle.states import Failure
from handlers.wire import RequestError

BUSY_RETRY_S = 1.0

LOADING_RETRY_S = 5.0


def load_failed(name: str, failure: Failure, now: float) -> RequestError:
    """Error for requests that waited for a failed load or come during its cool-down."""
    return RequestError(
        f"{name} {failure.message}" if failure.refused else f"{name} could not be loaded: {failure.message}",
        status=503,
        type="server_error",
        code=failure.code,
        retry_after_s=None if failure.refused else max(1.0, failure.until - now),
    )


def still_loading(name: str, waited_s: float, eta_s: float | None) -> RequestError:
    """Error at the end of a request's longest wait; the load goes on.

    `eta_s` is the expected rest in seconds, None if unknown.
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
    """Error of a gateway that already has its largest number of requests."""
    return RequestError(
        f"the server is busy: {queue_size} requests are being answered or waiting",
        status=503,
        type="server_error",
        code="server_overloaded",
        retry_after_s=BUSY_RETRY_S,
    )


def row_removed(slug: str) -> RequestError:
    """Error for a request whose row was removed from SETTINGS.md while it waited."""
    return RequestError(
        f"{slug} is no longer in the settings",
        status=404,
        code="model_not_found",
        param="category",
    )


def loading_skipped() -> RequestError:
    """Error of a gateway without models, started with --skip-model-loading."""
    return RequestError(
        "models are not served: the gateway was started with --skip-model-loading",
        status=503,
        type="server_error",
        code="model_loading_skipped",
    )


def shutting_down() -> RequestError:
    """Error for requests that come or still run while the gateway ends."""
    return RequestError(
        "the server is shutting down",
        status=503,
        type="server_error",
        code="shutting_down",
        retry_after_s=LOADING_RETRY_S,
    )


def unloaded(name: str) -> RequestError:
    """Error for a request whose worker set was unloaded with mode=now."""
    return RequestError(
        f"{name} was unloaded",
        status=503,
        type="server_error",
        code="model_unloaded",
        retry_after_s=BUSY_RETRY_S,
    )
