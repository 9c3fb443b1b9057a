"""Request bodies: read within a limit, parsed strictly, checked; every fault is a RequestError.

Knows HTTP requests and pydantic models. No refusal ever repeats a value that the client sent.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request

from handlers.strict_json import parse
from handlers.wire import RequestError

MAX_BODY_BYTES = 32 * 2**20
BODY_S = 300.0
"""Seconds in which a body has to be whole."""

# JSON, or nothing said; the last is what curl says of any `-d` body. No form is ever parsed, and a page of
# another site that posts a form is stopped by its Origin.
_CONTENT_TYPES = frozenset({"application/json", "", "application/x-www-form-urlencoded"})

M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request, model: type[M], *, limit: int = MAX_BODY_BYTES) -> M:
    """The body as a `model`. Also refused: another content type or encoding, repeated keys, deep nesting."""
    _check_headers(request, limit)
    raw = await read_body(request, limit)
    if not raw.strip():
        raise RequestError("a JSON body is needed", code="invalid_json")
    _check_shape(raw)
    return parse(model, raw)


def _check_headers(request: Request, limit: int) -> None:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in _CONTENT_TYPES:
        raise RequestError("content-type must be application/json", code="invalid_content_type")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError("the body must not be compressed", code="invalid_content_encoding")
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length[:20]) > limit:
        raise _too_large(limit)


async def read_body(request: Request, limit: int) -> bytes:
    """The body's bytes; 413 where there are more than `limit`."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError as error:
        message = f"the body did not come within {BODY_S:g} s"
        raise RequestError(message, status=408, code="request_timeout") from error
    except ClientDisconnect as error:
        raise RequestError("the client left", status=499, code="client_left") from error
    return bytes(body)


def _too_large(limit: int) -> RequestError:
    return RequestError(f"the body has more than {limit} bytes", status=413, code="body_too_large")


def _check_shape(raw: bytes) -> None:
    try:
        # What orjson reads it can write only if it is nested less than 255 deep; a worker gets it written.
        orjson.dumps(orjson.loads(raw))
        json.loads(raw, object_pairs_hook=_without_repeats)
    except (orjson.JSONDecodeError, UnicodeDecodeError) as error:
        raise RequestError("the body is not valid JSON in UTF-8", code="invalid_json") from error
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise RequestError("the body is nested too deeply", code="invalid_json") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise RequestError("the body names a key twice", code="invalid_json")
    return value
