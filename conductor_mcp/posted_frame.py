"""The body of a POST to `/mcp`, checked in a thread before the SDK parses it once more on the event loop.

The SDK limits only the bytes of a body, and it reads bodies itself, so a second parse is unavoidable: within
these limits it takes 10 to 50 ms. The body is passed on as it came, because rewriting would round large
numbers.
"""

from __future__ import annotations

from mcp_types import INVALID_REQUEST, PARSE_ERROR
from starlette.requests import Request

from conductor_admin.http.body import parsed, read_body
from conductor_mcp.frames import BadFrame
from handlers.json_bounds import JsonBounds
from handlers.strict_json import read_value
from handlers.wire import RequestError

BOUNDS = JsonBounds(containers=20_000, values=200_000, escapes=2_000_000, depth=100)
"""Limits of one frame, tighter than for other bodies: the SDK parses it on the event loop."""


async def posted_frame(request: Request) -> bytes:
    """Read and check the body; return its bytes. Raises BadFrame if it is no single frame or too large."""
    raw = bytes(await read_body(request))

    def check() -> None:
        try:
            value = read_value(raw, BOUNDS)
        except RequestError as error:
            raise BadFrame(PARSE_ERROR, f"Parse error: {error.message}") from error
        if not isinstance(value, dict):
            raise BadFrame(INVALID_REQUEST, "Invalid Request: a message must be a JSON object")

    await parsed(raw, check)
    return raw
