"""The two routes of a worker's private socket: `POST /generate` and `GET /health`.

Serves HTTP to the gateway only. A failed request has status 200 and an `error` record.
Health has the memory that this process and its children hold.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import orjson
import psutil
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from handlers.diagnostics.loop_watch import Holds
from handlers.json_bounds import WORKER
from handlers.long_records import lines_of
from handlers.off_loop import off_loop
from handlers.strict_json import parse
from handlers.wire import WIRE_VERSION, GenerateRequest, RequestError
from handlers.worker.coalescing import coalesce
from handlers.worker.requests import Record, Running, error_record
from handlers.worker_config import WorkerConfig

CONTENT_TYPE = "application/x-ndjson"
_MUCH_BYTES = 2**17
"""Bytes that are written before other tasks get a turn."""


def proportional_set_size() -> int:
    """PSS in bytes of this process and its descendants.

    Pages that several processes share count once in total.
    """
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    total = 0
    for process in family:
        # A process may have ended since it was listed.
        with suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
            total += next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
    return total


def create_app(
    config: WorkerConfig, running: Running, last_error: Callable[[], str | None], holds: Holds
) -> Starlette:
    """The ASGI application.

    `last_error()` is the runtime's failure, `holds` counts long steps of the event loop.
    """

    async def generate(request: Request) -> Response:
        try:
            raw = await request.body()
            body = await off_loop(len(raw), parse, GenerateRequest, raw, WORKER)
        except ClientDisconnect:
            return Response()
        except RequestError as error:
            return Response(b"".join(lines_of(error_record(error))), media_type=CONTENT_TYPE)
        return RecordStream(coalesce(running.records(body), lambda: len(running)))

    async def health(request: Request) -> Response:
        memory = await asyncio.to_thread(proportional_set_size)
        state = _health(config, running, memory, last_error())
        state["loop"] = {"held": holds.count, "longest_s": round(holds.longest_s, 3)}
        return Response(orjson.dumps(state), media_type="application/json")

    return Starlette(
        routes=[Route("/generate", generate, methods=["POST"]), Route("/health", health, methods=["GET"])]
    )


def _health(config: WorkerConfig, running: Running, memory: int, last_error: str | None) -> dict[str, Any]:
    runtime = running.source.runtime
    stats = runtime.stats()
    return {
        "wire": WIRE_VERSION,
        "set": config.set,
        "version": config.version,
        "weights": config.weights,
        "runtime": config.runtime,
        "device": config.device,
        "precision": config.precision,
        "pid": os.getpid(),
        "context": runtime.context,
        "running": stats.running,
        "waiting": stats.waiting,
        "kv_usage": stats.kv_usage,
        "memory": memory,
        "last_error": last_error,
    }


class RecordStream(Response):
    """Streams records as lines of JSON.

    It stops when the client disconnects, even while it has nothing to send.
    """

    def __init__(self, batches: AsyncGenerator[list[Record], None]) -> None:
        super().__init__(media_type=CONTENT_TYPE)
        del self.headers["content-length"]
        self.batches = batches

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends one response; returns when the stream has ended or the client has disconnected."""
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        tasks = {sending, leaving}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not sending.cancelled():
            sending.result()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self.batches) as batches:
            async for batch in batches:
                for body in _bodies(batch):
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                    if len(body) >= _MUCH_BYTES:
                        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})


def _bodies(batch: list[Record]) -> Iterator[bytes]:
    """The lines of the records, joined up to the size after which other tasks get a turn."""
    body = b""
    for record in batch:
        for line in lines_of(record):
            body += line
            if len(body) >= _MUCH_BYTES:
                yield body
                body = b""
    if body:
        yield body


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class SocketServer(uvicorn.Server):
    """uvicorn on a Unix socket, which gets its name only when it accepts connections."""

    def __init__(self, app: Starlette, path: Path, listening: Future[None]) -> None:
        self.path = path
        self.listening = listening
        self._unnamed = path.with_suffix(".new")
        super().__init__(
            uvicorn.Config(
                app, uds=str(self._unnamed), access_log=False, log_config=None, lifespan="off", ws="none"
            )
        )

    async def startup(self, sockets: Any = None) -> None:
        """Binds, listens, renames the socket to its final name and signals that it is ready."""
        self._unnamed.unlink(missing_ok=True)
        await super().startup(sockets)
        self._unnamed.rename(self.path)
        self.listening.set_result(None)
