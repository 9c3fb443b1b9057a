"""Connections that are slow, large or misleading, on the gateway's own protocol."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import orjson
import pytest

from conductor_admin.http import body_gate, protocol
from conductor_admin.http.protocol import BoundedProtocol
from tests.conductor_admin.gateway_rig import Rig
from tests.conductor_admin.raw_http import connection, statuses, talk

HEAD = "GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = "POST /check HTTP/1.1\r\nHost: 127.0.0.1\r\n"
ASKED = orjson.dumps({"text": "x"})


@pytest.mark.parametrize("said", ["", "GET /health", HEAD, f"{HEAD}x: " + "y" * 1000])
async def test_a_head_that_does_not_come_is_given_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.05)
    answer = await talk(rig.url, said)
    assert statuses(answer) == [408]
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"


async def test_a_kept_connection_has_as_little_time_for_its_next_head(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connection(rig.url) as (reader, writer):
        writer.write(f"{HEAD}\r\n".encode())
        assert b"200" in await reader.readline()
        monkeypatch.setattr(protocol, "HEAD_S", 0.05)
        writer.write(b"GET /health/live HTTP/1.1\r\nx")
        assert b"408" in await reader.read()


async def test_a_whole_head_is_not_hurried(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.05)
    rig.torchserve.may_load.clear()
    asking = asyncio.create_task(rig.client.post("/generate", json={"prompt": "x"}))
    await rig.until(lambda: bool(rig.torchserve.registered))
    assert statuses(await talk(rig.url, "GET")) == [408]
    rig.torchserve.may_load.set()
    assert (await asking).status_code == 200


@pytest.mark.parametrize("filler", ["x: " + "y" * 400_000, "".join(f"x-{n}: y\r\n" for n in range(40_000))])
async def test_a_head_without_an_end_is_refused(rig: Rig, filler: str) -> None:
    with contextlib.suppress(ConnectionError):  # it may close before everything was sent
        assert statuses(await talk(rig.url, HEAD, filler)) == [431]
    assert (await rig.client.get("/health/live")).status_code == 200


async def test_a_body_that_does_not_come_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_gate, "BODY_S", 0.05)
    answer = await talk(rig.url, f"{POST}connection: close\r\ncontent-length: 100\r\n\r\n{{")
    assert statuses(answer) == [408]
    assert b"request_timeout" in answer


async def test_two_lengths_of_one_body_are_refused(rig: Rig) -> None:
    """One server would read the rest as another request, another server as a part of this one."""
    for lines in (
        "content-length: 12\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 12\r\n",
        "content-length: 12\r\ncontent-length: 13\r\n",
        "transfer-encoding: identity\r\ncontent-length: 12\r\n",
        "content-length: +12\r\n",
        "content-length: 0x0c\r\n",
        "transfer-encoding: chunked, identity\r\n",
    ):
        answer = await talk(
            rig.url, f"{POST}connection: close\r\n{lines}\r\n0\r\n\r\nGET /models HTTP/1.1\r\n\r\n"
        )
        assert len(statuses(answer)) == 1, lines
        assert statuses(answer)[0] == 400, lines


async def test_twenty_requests_at_once_are_answered_in_turn(rig: Rig) -> None:
    last = HEAD + "connection: close\r\n\r\n"
    assert statuses(await talk(rig.url, f"{HEAD}\r\n" * 19, last)) == [200] * 20


async def test_a_body_in_chunks_with_a_trailer_is_read(rig: Rig) -> None:
    head = f"{POST}connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in ASKED)
    assert statuses(await talk(rig.url, head, chunks, "0\r\nauthorization: Bearer x\r\n\r\n")) == [200]


async def test_a_client_that_asks_whether_to_go_on_is_told(rig: Rig) -> None:
    head = f"{POST}connection: close\r\nexpect: 100-continue\r\ncontent-length: {len(ASKED)}\r\n\r\n"
    async with connection(rig.url) as (reader, writer):
        writer.write(head.encode())
        assert b"100 Continue" in await reader.readline()
        writer.write(ASKED)
        assert b"200 OK" in await reader.read()


@pytest.mark.parametrize(
    "line", ["NONSENSE", "GET\r\n", "GET /health/live HTTP/9.9", "GET /\x00 HTTP/1.1", "\x16\x03\x01"]
)
async def test_what_is_no_http_is_400(rig: Rig, line: str) -> None:
    assert statuses(await talk(rig.url, f"{line}\r\nHost: 127.0.0.1\r\n\r\n")) == [400]


async def test_the_old_protocol_is_answered_and_closed(rig: Rig) -> None:
    assert statuses(await talk(rig.url, "GET /health/live HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")) == [200]


async def test_a_refused_body_that_goes_on_for_ever_is_cut(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "UNREAD_BODY_S", 0.2)
    async with connection(rig.url) as (reader, writer):
        writer.write(b"POST /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{")
        assert b"404" in await reader.readline()
        writer.write(b"{")
        await reader.read()  # up to its end


async def test_a_connection_serves_on_once_a_refused_body_is_whole(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connection(rig.url) as (reader, writer):
        writer.write(b"POST /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\ncontent-length: 40\r\n\r\n{")
        assert b"404" in await reader.readline()
        writer.write(b" " * 38 + b"}" + f"{HEAD}connection: close\r\n\r\n".encode())
        assert statuses(await reader.read()) == [200]


async def test_blanks_do_not_hold_a_kept_connection(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = BoundedProtocol.__init__

    def hurried(self: BoundedProtocol, *args: Any, **named: Any) -> None:
        kept(self, *args, **named)
        self.timeout_keep_alive = 1

    monkeypatch.setattr(BoundedProtocol, "__init__", hurried)
    async with connection(rig.url) as (reader, writer):
        writer.write(f"{HEAD}\r\n".encode())
        assert b"200" in await reader.readline()
        writer.write(b"\r\n")
        await reader.read()  # up to its end


async def test_a_connection_too_many_is_told_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "most", 1)
    # The worker and TorchServe of the rig speak the same protocol, each with connections of its own.
    async with connection(rig.url) as (_, writer):
        writer.write(b"GET")
        answer = await talk(rig.url)
        assert statuses(answer) == [503]
        assert b"too_many_connections" in answer


async def test_a_thousand_silent_connections_hold_nobody_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(1000):
            await stack.enter_async_context(connection(rig.url))
        assert (await rig.client.post("/generate", json={"prompt": "x"})).status_code == 200


@pytest.mark.parametrize("path", ["/health/live", "/mcp", "/generate"])
async def test_a_websocket_is_not_opened(rig: Rig, path: str) -> None:
    upgrade = "connection: upgrade, close\r\nupgrade: websocket\r\nsec-websocket-key: eA=="
    answer = await talk(rig.url, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{upgrade}\r\n\r\n")
    assert statuses(answer)[0] in (200, 404, 405)
    assert b"101 " not in answer


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 405), ("OPTIONS", 405), ("TRACE", 405), ("BREW", 400)]
)
async def test_other_methods_are_refused(rig: Rig, method: str, status: int) -> None:
    answer = await talk(
        rig.url, f"{method} /generate HTTP/1.1\r\nHost: 127.0.0.1\r\nconnection: close\r\n\r\n"
    )
    assert statuses(answer) == [status]
    assert method != "HEAD" or answer.endswith(b"\r\n\r\n")


async def test_an_absolute_target_is_the_same_route(rig: Rig) -> None:
    last = "Host: 127.0.0.1\r\nconnection: close\r\n\r\n"
    assert statuses(await talk(rig.url, f"GET http://127.0.0.1/health/live HTTP/1.1\r\n{last}")) == [200]


@pytest.mark.parametrize("size", ["fffffffffffffffff", "-5", "0x5", "5 5", "x"])
async def test_a_chunk_of_no_size_is_400(rig: Rig, size: str) -> None:
    head = f"{POST}transfer-encoding: chunked\r\n\r\n{size}\r\nabcde\r\n0\r\n\r\n"
    answer = await talk(rig.url, head, "GET /models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert statuses(answer) == [400]
    assert b"invalid_http" in answer
