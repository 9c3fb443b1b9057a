"""A client on a raw socket, which can stop reading or send requests that no library would."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson


def request_of(path: str, body: Mapping[str, Any], **headers: str) -> bytes:
    """A POST of JSON with its own length."""
    content = orjson.dumps(body)
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"content-length: {len(content)}", "", ""]).encode() + content


@contextlib.contextmanager
def unread(url: str, request: bytes) -> Any:
    """A connection that has sent `request` and never reads, with a small receive buffer."""
    client = socket.socket()
    try:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0])))
        client.sendall(request)
        client.setblocking(False)
        yield client
    finally:
        client.close()


async def rest_of(client: socket.socket) -> bytes:
    """The unread bytes of a connection up to its end or reset."""
    loop = asyncio.get_running_loop()
    pieces: list[bytes] = []
    with contextlib.suppress(ConnectionError):
        while piece := await loop.sock_recv(client, 2**16):
            pieces.append(piece)
    return b"".join(pieces)


@contextlib.asynccontextmanager
async def connection(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the server at `url`, for ten seconds at most."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def talk(url: str, *parts: str | bytes) -> bytes:
    """The answer of the server at `url` until it closes the connection."""
    async with connection(url) as (reader, writer):
        for part in parts:
            writer.write(part.encode() if isinstance(part, str) else part)
        return await reader.read()


def statuses(answer: bytes) -> list[int]:
    """The status of each answer of a connection."""
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
