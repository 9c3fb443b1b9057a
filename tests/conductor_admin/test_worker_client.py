"""The worker client with a worker whose process is ending."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from conductor_admin.workers.client import Patience, WorkerClient, WorkerUnreachable
from handlers.wire import GenerateRequest, RequestError

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n"
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def worker(answer: Answer) -> AsyncIterator[WorkerClient]:
    """A socket that reads a request and then runs `answer`; its path is short in any test folder."""
    folder = Path(tempfile.mkdtemp(prefix="ct-"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await answer(writer)
        writer.close()

    try:
        async with await asyncio.start_unix_server(serve, folder / "1.sock"):
            yield WorkerClient(folder / "1.sock")
    finally:
        shutil.rmtree(folder)


async def generate(client: WorkerClient) -> None:
    request = GenerateRequest(id="r", engine="conversational_chat", prompt="Hi")
    async with asyncio.timeout(10), aclosing(client.generate(request, Patience(5, 5))) as records:
        async for _ in records:
            pass


async def test_a_worker_that_ends_before_its_head_has_done_nothing_and_another_is_asked() -> None:
    async def nothing(writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with worker(nothing) as client:
        with pytest.raises(WorkerUnreachable):
            await generate(client)


async def test_a_worker_that_ends_after_its_head_has_died() -> None:
    async def head(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b'{"delta": "H"}\n')
        await writer.drain()

    async with worker(head) as client:
        with pytest.raises(RequestError) as died:
            await generate(client)
    assert died.value.code == "worker_died"
