"""Limits of chunk framing and trailers, and no memory left after a connection closes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
import uvloop
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from conductor_admin.http.protocol import BoundedProtocol, SlowReaderGuard
from tests.conductor_admin.fake_torchserve import SocketServer
from tests.conductor_admin.gateway_rig import Rig
from tests.conductor_admin.key_rig import Keys
from tests.conductor_admin.raw_http import connection, statuses, talk

GET = "GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHUNKED = "POST /check HTTP/1.1\r\nHost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n"
ASKED = orjson.dumps({"text": "x"})
WHOLE = f"{len(ASKED):x}\r\n{ASKED.decode()}\r\n"
MB = 2**20


def error_of(answer: bytes) -> dict[str, Any]:
    """The error of the only answer in `answer`."""
    error: dict[str, Any] = orjson.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    return error


async def flood(url: str, head: str, piece: bytes, most: int = 32 * MB) -> tuple[bytes, int]:
    """Send `head` and then `piece` repeatedly; return the answer and the number of bytes taken."""
    sent = 0
    async with connection(url) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(head.encode())
            while sent < most and not reader.at_eof():
                writer.write(piece)
                await writer.drain()
                sent += len(piece)
        with contextlib.suppress(ConnectionError):
            return await reader.read(), sent
        return b"", sent


FLOODS = {
    "many trailers": (f"{CHUNKED}\r\n{WHOLE}0\r\n", b"x-a: b\r\n"),
    "one endless trailer": (f"{CHUNKED}\r\n{WHOLE}0\r\nx-a: ", b"y" * 8),
    "trailers without a body": (f"{CHUNKED}\r\n0\r\n", b"x-a: b\r\n"),
    "a name without an end": (f"{CHUNKED}\r\n{WHOLE}0\r\n", b"y" * 8),
    "an extension without an end": (f"{CHUNKED}\r\n5;", b"x" * 8),
    "an extension with a value without an end": (f"{CHUNKED}\r\n5;x=", b"y" * 8),
    "an extension in quotes": (f'{CHUNKED}\r\n5;x="', b"y" * 8),
    "an extension of each chunk": (f"{CHUNKED}\r\n", b"1;" + b"x" * 500 + b"\r\n \r\n"),
    "a byte a chunk": (f"{CHUNKED}\r\n", b"1\r\n \r\n"),
    "leading zeros": (f"{CHUNKED}\r\n", b"0" * 8),
}


@pytest.mark.parametrize("size", [100, 300_000], ids=["small pieces", "large pieces"])
@pytest.mark.parametrize("kind", FLOODS)
async def test_what_is_no_body_is_bounded(rig: Rig, kind: str, size: int) -> None:
    head, unit = FLOODS[kind]
    answer, sent = await flood(rig.url, head, unit * max(1, size // len(unit)), most=8 * MB)
    assert sent < 8 * MB
    if answer:  # the refusal may be lost if more data came after it
        assert statuses(answer) in ([400], [431])
        assert error_of(answer)["message"]
    assert (await rig.client.get("/models")).status_code == 200


@pytest.mark.parametrize("who", ["nobody", "infer"])
@pytest.mark.parametrize("kind", ["many trailers", "one endless trailer", "an extension of each chunk"])
async def test_a_flood_costs_no_memory_with_a_key_and_without(keys: Keys, kind: str, who: str) -> None:
    head, unit = FLOODS[kind]
    if who == "infer":
        head = head.replace("\r\n\r\n", f"\r\nauthorization: Bearer {keys.infer}\r\n\r\n", 1)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        piece = unit * (MB // len(unit))
        for _ in range(4):
            await flood(keys.rig.url, head, piece, most=64 * MB)
        # One piece and its copy in the transport of the test itself are of this process too.
        assert tracemalloc.get_traced_memory()[1] - before < 6 * MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("kind", "status"), [("many trailers", 431), ("a byte a chunk", 400)])
async def test_the_refusal_has_the_one_shape_and_closes(rig: Rig, kind: str, status: int) -> None:
    head, unit = FLOODS[kind]
    async with connection(rig.url) as (reader, writer):
        writer.write(head.encode())
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and not reader._buffer:  # type: ignore[attr-defined]
                writer.write(unit * (1024 // len(unit)))
                await writer.drain()
                await asyncio.sleep(0)
        answer = await reader.readuntil(b"}}")
    assert statuses(answer) == [status]
    assert error_of(answer).keys() == {"message", "type", "param", "code"}


async def test_trailers_behind_a_large_body_have_no_larger_bound(rig: Rig) -> None:
    body = f"40000\r\n{' ' * 0x40000}\r\n{WHOLE}0\r\n"
    with contextlib.suppress(ConnectionError):
        answer = await talk(rig.url, CHUNKED, "\r\n", body, "x: y\r\n" * 8_000, "\r\n")
        assert statuses(answer) == [431]


async def test_large_chunks_with_small_extensions_are_read(rig: Rig) -> None:
    chunk = b"4000;name=value\r\n" + b" " * 0x4000 + b"\r\n"
    last = f"{WHOLE}0;last\r\nx-checksum: 5\r\n\r\n"
    head = CHUNKED + "connection: close\r\n\r\n"
    assert statuses(await talk(rig.url, head, chunk * 64, last)) == [200]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("authorization: Bearer {key}", 401),
        ("x-api-key: {key}", 401),
        ("host: evil.com", 401),
        ("origin: http://evil.com", 401),
    ],
)
async def test_a_trailer_is_no_header(keys: Keys, line: str, status: int) -> None:
    trailer = line.format(key=keys.infer)
    answer = await talk(keys.rig.url, f"{CHUNKED}connection: close\r\n\r\n{WHOLE}0\r\n{trailer}\r\n\r\n")
    assert statuses(answer) == [status]


async def test_no_trailer_comes_to_the_application() -> None:
    seen: list[list[tuple[bytes, bytes]]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        seen.append(list(scope["headers"]))
        await answer(send)

    async with served(app) as url:
        for name in ("authorization", "host", "x-api-key", "content-length", "content-type", "x-other"):
            head = "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
            # In two parts: the request before the trailers is already being handled.
            async with connection(url) as (reader, writer):
                writer.write(f"{head}1\r\nx\r\n".encode())
                await writer.drain()
                writer.write(f"0\r\n{name}: evil\r\n\r\n".encode())
                await reader.read()
    assert seen
    assert all(b"evil" not in value for headers in seen for _, value in headers)


@pytest.mark.parametrize(
    ("filler", "status"),
    [
        ("".join(f"x-{n}: y\r\n" for n in range(200)), 431),
        ("x: " + "y" * 20_000 + "\r\n", 431),
        ("".join(f"x-{n}: y\r\n" for n in range(60)), 200),
    ],
)
async def test_headers_are_bounded_in_number_and_length(rig: Rig, filler: str, status: int) -> None:
    assert statuses(await talk(rig.url, f"{GET}connection: close\r\n{filler}\r\n")) == [status]


async def test_a_target_is_bounded(rig: Rig) -> None:
    answer = await talk(rig.url, f"GET /{'x' * 20_000} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert statuses(answer) == [414]


async def test_requests_that_wait_for_an_answer_are_bounded(rig: Rig) -> None:
    async with connection(rig.url) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(f"{GET}\r\n".encode() * 5000)
            await writer.drain()
        with contextlib.suppress(ConnectionError):
            assert len(statuses(await reader.read())) < 5000
    assert (await rig.client.get("/models")).status_code == 200


async def answer(send: Send) -> None:
    """Send the smallest answer."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def served(app: Any) -> Any:
    """The URL of `app` on the gateway's own protocol."""
    server = SocketServer(app)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


async def small_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, then answer; on `/endless` without an end."""
    message: Message = {"more_body": True}
    while message.get("more_body"):
        message = await receive()
    if message["type"] == "http.disconnect":
        return
    if scope["path"] == "/endless":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        await receive()
        return
    await answer(send)


async def _whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(f"{GET}connection: close\r\n\r\n".encode())
    await reader.read()


async def _kept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(3):
        writer.write(f"{GET}\r\n".encode())
        await reader.readuntil(b"ok")


async def _in_mid_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(f"{CHUNKED}\r\n{WHOLE}".encode())
    await writer.drain()


async def _in_mid_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GET.encode())
    await writer.drain()


async def _in_mid_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"x" * 1000)


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _kept(reader, writer)
    writer.transport.abort()


async def _refused(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"NONSENSE\r\n\r\n")
    await reader.read()


async def _trailers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(f"{CHUNKED}\r\n{WHOLE}0\r\n".encode() + b"x: y\r\n" * 10_000)
    with contextlib.suppress(ConnectionError):
        await reader.read()


async def _pipelined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n" + f"{GET}\r\n".encode() * 5)
    await reader.readuntil(b"x" * 1000)


ENDS = [_whole, _kept, _in_mid_body, _in_mid_head, _in_mid_answer, _reset, _refused, _trailers, _pipelined]


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    "factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_closed_connection_is_freed_without_a_collection(
    monkeypatch: pytest.MonkeyPatch, end: Callable[..., Any], factory: Callable[[], Any]
) -> None:
    held: weakref.WeakSet[Any] = weakref.WeakSet()
    for kind in (BoundedProtocol, SlowReaderGuard, RequestResponseCycle):

        def noted(self: Any, *args: Any, _init: Any = kind.__init__, **named: Any) -> None:
            held.add(self)
            _init(self, *args, **named)

        monkeypatch.setattr(kind, "__init__", noted)

    async def visit() -> None:
        async with served(small_app) as url:
            for _ in range(3):
                async with connection(url) as (reader, writer):
                    await end(reader, writer)
            async with asyncio.timeout(10):
                while held:
                    await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(visit())
    assert not held


async def test_a_connection_of_the_whole_gateway_is_freed_too(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, uncollected: None
) -> None:
    held: weakref.WeakSet[Any] = weakref.WeakSet()
    made = BoundedProtocol.connection_made

    def noted(self: BoundedProtocol, transport: Any) -> None:
        held.add(self)
        made(self, transport)

    monkeypatch.setattr(BoundedProtocol, "connection_made", noted)
    for body in (f"{WHOLE}0\r\n\r\n", WHOLE, "1\r\n{\r\n0\r\n\r\n"):
        async with connection(rig.url) as (_, writer):
            writer.write(f"{CHUNKED}\r\n{body}".encode())
            await writer.drain()
    await rig.until(lambda: not held)
