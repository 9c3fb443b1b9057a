"""Responses of the gateway: JSON, failures in one shape, and streams that end when the client leaves.

A failure has `Retry-After` if a retry helps. Starlette's StreamingResponse cannot turn a failure before the
first byte into a status. `send` blocks while a client reads nothing, until `conductor_admin.http.protocol`
disconnects it, which ends the stream as its leaving does.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, TypeVar

import orjson
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from conductor_core.files import fault, is_fault_of_files
from handlers.off_loop import off_loop
from handlers.strict_json import refusal
from handlers.wire import RequestError

_RETRIED = frozenset({408, 409, 429})
"""Statuses below 500 after which OpenAI's clients retry."""

Pieces = AsyncGenerator[bytes, None]


class JsonResponse(JSONResponse):
    """A JSON answer by orjson, never cached; a large one is made by `json_answer`.

    A JSONResponse, because FastAPI describes only the answers of these as JSON.
    """

    def __init__(
        self,
        content: Any,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(content, status_code, {"cache-control": "no-store", **(headers or {})}, **more)

    def render(self, content: Any) -> bytes:
        """The body; called by `__init__`."""
        return orjson.dumps(content)


async def json_answer(
    size: int, make: Callable[[], object], headers: dict[str, str] | None = None
) -> JsonResponse:
    """Answer with the result of `make`, serialised in a thread if its `size` is large."""
    return await off_loop(size, lambda: JsonResponse(make(), headers=headers))


def error_response(error: RequestError) -> Response:
    """The answer that carries `error`."""
    return JsonResponse(error.to_json(), error.status, retry_header(error))


def retry_header(error: RequestError) -> dict[str, str]:
    """`Retry-After` in whole seconds if the error says that a retry helps.

    Else `x-should-retry: false`, for clients that would retry by themselves.
    """
    if error.retry_after_s is None:
        return {"x-should-retry": "false"} if error.status in _RETRIED or error.status >= 500 else {}
    return {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}


def insufficient_storage(effect: str, error: OSError) -> RequestError:
    """Error 507 of a failed disk: its `effect`, the path and the cure.

    For callers who may see paths of this machine.
    """
    return _storage(f"{effect}: {fault(error)}")


def keys_file_failed(message: str, cause: OSError | None) -> RequestError:
    """Error of a file of keys that cannot be used: 507 if the disk is at fault, else 503."""
    if cause is not None:
        return _storage(message)
    return RequestError(message, status=503, type="server_error", code="keys_file_unusable")


def storage_failed(error: OSError) -> RequestError:
    """Error 507 of a failed disk for any caller: without the path."""
    return _storage(f"the server's disk failed: {fault(OSError(error.errno, error.strerror))}")


def _storage(message: str) -> RequestError:
    return RequestError(message, status=507, type="server_error", code="insufficient_storage")


def failure_of(error: Exception) -> RequestError:
    """Error for the client of a request that an unexpected `error` has ended; the log has the details.

    A ValidationError is a 400: valid fields together made a shape that is beyond its limits. A failed disk is
    a 507.
    """
    if isinstance(error, ValidationError):
        return refusal(error)
    if isinstance(error, OSError) and is_fault_of_files(error):
        return storage_failed(error)
    return RequestError("internal error", status=500, type="server_error", code="internal_error")


def install(app: FastAPI) -> None:
    """Make FastAPI render every error in the one shape."""
    app.add_exception_handler(RequestError, _request_error)
    app.add_exception_handler(HTTPException, _http_error)


async def _request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {
        404: ("no such route", "not_found"),
        405: ("this route does not support this method", "method_not_allowed"),
    }
    message, code = words.get(error.status_code, (HTTPStatus(error.status_code).phrase.lower(), "http_error"))
    response = error_response(RequestError(message, status=error.status_code, code=code))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


class StreamResponse(Response):
    """Sends `pieces` as they come. A failure before the first is `failed(error)`, later `tail(error)`."""

    def __init__(
        self,
        pieces: Pieces,
        media_type: str,
        tail: Callable[[RequestError], bytes],
        failed: Callable[[RequestError], Response] = error_response,
        more_headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no", **more_headers}
        super().__init__(media_type=media_type, headers=headers)
        del self.headers["content-length"]
        self._pieces = pieces
        self._tail = tail
        self._failed = failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; returns early, with the pieces closed, when the client has left."""
        await until_left(receive, self._send(scope, receive, send))

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._pieces) as pieces:
            try:
                piece = await anext(pieces, b"")
            except RequestError as error:
                await self._failed(error)(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                while piece:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    piece = await anext(pieces, b"")
            except RequestError as error:
                await send({"type": "http.response.body", "body": self._tail(error), "more_body": True})
            await send({"type": "http.response.body", "body": b""})


T = TypeVar("T")


async def until_left(receive: Receive, work: Awaitable[T]) -> T | None:
    """The result of `work`, or None when the client has left first; `work` is cancelled then."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_client_left(receive))
    tasks: set[asyncio.Future[object]] = {working, leaving}  # type: ignore[arg-type]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return None if working.cancelled() else working.result()


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
