"""Bodies of `/mcp` before the SDK parses them."""

from __future__ import annotations

import json

import pytest
from starlette.requests import Request
from starlette.types import Message

from conductor_mcp.frames import BadFrame
from conductor_mcp.posted_frame import posted_frame

PING = b'{"jsonrpc": "2.0", "id": 1000000000000000000000000000000, "method": "ping"}'
BAD = {
    "no JSON": (b'{"jsonrpc"', -32700),
    "nothing": (b"", -32700),
    "a repeated key": (b'{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "ping"}', -32700),
    "a batch": (b"[" + PING + b"," + PING + b"]", -32600),
    "a number": (b"7", -32600),
    "NaN": (b'{"id": NaN}', -32700),
    "deep": (b'{"x":' * 150 + b"1" + b"}" * 150, -32700),
    "many lists": (b'{"x":[' + b"[]," * 500_000 + b"1]}", -32700),
    "many numbers": (b'{"x":[' + b"1," * 500_000 + b"1]}", -32700),
    "many escapes": (b'{"x":"' + b"\\n" * 3_000_000 + b'"}', -32700),
    "a surrogate": (b'{"x": "\\ud800"}', -32700),
}


def post(body: bytes) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


@pytest.mark.parametrize("kind", BAD)
async def test_what_is_no_frame_or_too_much_is_refused_as_json_rpc_says(kind: str) -> None:
    body, code = BAD[kind]
    with pytest.raises(BadFrame) as caught:
        await posted_frame(post(body))
    assert caught.value.answer["error"]["code"] == code


@pytest.mark.parametrize("body", [PING, json.dumps({"x": "é" * 400_000}).encode()], ids=["small", "large"])
async def test_a_frame_comes_through_as_it_was(body: bytes) -> None:
    assert await posted_frame(post(body)) == body
