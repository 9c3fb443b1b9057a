"""Request bodies: reads, parses strictly and validates them; every fault is a RequestError.

`conductor_admin.http.body_gate` limits sizes and times. No error repeats a value that the client sent.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request

from handlers.off_loop import charged_thread
from handlers.strict_json import parse
from handlers.wire import RequestError

LOOP_BYTES = 64 * 2**10
"""Larger bodies are parsed in a thread: 64 KiB take 15 ms at most, 25 MB take 60 to 250 ms."""

# One thread: a second would only take turns with the first, and with the event loop.
_PARSER = ThreadPoolExecutor(1, "bodies")

# JSON, or no type; the last is what curl sends with any `-d` body. No form is ever parsed, and the check of
# Origin stops a page of another site that posts a form.
_CONTENT_TYPES = frozenset({"application/json", "", "application/x-www-form-urlencoded"})

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


async def read_json(request: Request, model: type[M]) -> M:
    """Read the body as a `model`; refuse other content types, compression, repeated keys, deep nesting."""
    _check_headers(request)
    raw = await read_body(request)
    if not raw or raw.isspace():
        raise RequestError("a JSON body is required", code="invalid_json")
    return await parsed(raw, lambda: parse(model, raw))


async def parsed(raw: bytes | bytearray, parse: Callable[[], T]) -> T:
    """Result of `parse`, which parses `raw`; runs in a thread if `raw` is large."""
    if len(raw) <= LOOP_BYTES:
        return parse()
    return await charged_thread(parse, _PARSER)


async def read_body(request: Request) -> bytearray:
    """The body's bytes."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
    except ClientDisconnect as error:
        raise RequestError("the client disconnected", status=499, code="client_left") from error
    return body


def _check_headers(request: Request) -> None:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in _CONTENT_TYPES:
        raise RequestError("content-type must be application/json", code="invalid_content_type")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError("the body must not be compressed", code="invalid_content_encoding")
