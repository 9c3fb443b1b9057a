"""The body of a POST to `/mcp`, checked in a thread before the SDK parses it once more on the event loop.

The SDK bounds its bytes alone. A second parse is the price of its reading bodies itself: what passes these
bounds takes it 10 to 50 ms. What passes is not written anew, since that would round large numbers.
"""

from __future__ import annotations

from mcp_types import INVALID_REQUEST, PARSE_ERROR
from starlette.requests import Request

from conductor_admin.http.body import parsed, read_body
from conductor_mcp.frames import BadFrame
from handlers.json_bounds import Bounds
from handlers.strict_json import read_value
from handlers.wire import RequestError

BOUNDS = Bounds(containers=20_000, values=200_000, escapes=2_000_000, depth=100)
"""Tighter than for other bodies: the SDK parses and checks each frame on the loop."""


async def posted_frame(request: Request) -> bytes:
    """The body as it came; BadFrame for what is no single frame or too much."""
    raw = bytes(await read_body(request))
    await parsed(raw, lambda: _check(raw))
    return raw


def _check(raw: bytes) -> None:
    try:
        value = read_value(raw, BOUNDS)
    except RequestError as error:
        raise BadFrame(PARSE_ERROR, f"Parse error: {error.message}") from error
    if not isinstance(value, dict):
        raise BadFrame(INVALID_REQUEST, "Invalid Request: a frame is a JSON object")
