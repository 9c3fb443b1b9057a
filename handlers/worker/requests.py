"""Requests in progress on a worker, each of which ends with exactly one `done` or `error` record.

Knows records and tasks; the caller sends them to the client. A *source* makes records:
`handlers.inference.generator.Generator`, or a scripted one in a test.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from pydantic import ValidationError

from handlers.runtimes.base import Runtime
from handlers.strict_json import refusal
from handlers.wire import GenerateRequest, RequestError

Record = dict[str, Any]

logger = logging.getLogger(__name__)


class RecordSource(Protocol):
    """Makes the records of a request; closing the iterator or cancelling its task cancels the request."""

    @property
    def runtime(self) -> Runtime: ...

    def records(self, request: GenerateRequest) -> AsyncGenerator[Record, None]: ...


def error_record(error: RequestError) -> Record:
    """`{"error": {message, type, param, code, status, retry_after_s}}`, the last record of a failure."""
    detail = error.to_json()["error"]
    return {"error": {**detail, "status": error.status, "retry_after_s": error.retry_after_s}}


def is_last(record: Record) -> bool:
    """True if `record` is the last one of its request."""
    return "done" in record or "error" in record


def worker_failed(reason: str) -> RequestError:
    """The error 500 of every request on a worker that is about to end."""
    return RequestError(
        f"the worker failed: {reason}",
        status=500,
        type="server_error",
        code="worker_failed",
        retry_after_s=1.0,
    )


class Running:
    """The requests in progress. Used on the worker's event loop only."""

    def __init__(self, source: RecordSource) -> None:
        self.source = source
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failure: RequestError | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def fail(self, failure: RequestError) -> None:
        """Ends every request, present and future, with `failure` as its last record."""
        self._failure = failure
        for task in self._tasks:
            task.cancel()

    async def records(self, request: GenerateRequest) -> AsyncGenerator[Record, None]:
        """The request's records; any failure becomes the last record. Iterate it within one task."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with aclosing(self._complete(request)) as records:
                async for record in records:
                    yield record
        except asyncio.CancelledError:
            if self._failure is None:
                raise
            task.uncancel()
            yield error_record(self._failure)
        finally:
            self._tasks.discard(task)

    async def _complete(self, request: GenerateRequest) -> AsyncGenerator[Record, None]:
        try:
            if self._failure is not None:
                raise self._failure
            async with aclosing(self.source.records(request)) as records:
                async for record in records:
                    yield record
                    if is_last(record):
                        return
            yield error_record(_broken("the runtime ended the answer without its last record"))
        except RequestError as error:
            yield error_record(error)
        except ValidationError as error:  # fields within their own limits can together exceed another limit
            logger.exception("request %s failed", request.id)
            yield error_record(refusal(error))
        except Exception:  # the outermost frame of a request: a defect in one request must not end the others
            logger.exception("request %s failed", request.id)
            yield error_record(_broken("internal error in the worker; its log has the traceback"))


def _broken(message: str) -> RequestError:
    return RequestError(message, status=500, type="server_error", code="internal_error")
