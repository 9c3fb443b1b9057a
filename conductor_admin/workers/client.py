"""Client of one worker's private Unix socket: health, and the records of one generation.

Knows the wire between gateway and worker (handlers.wire), not worker sets or HTTP routes. The relay passes
records through as bytes and parses only the last one, because each event costs time of the cores that
the runtime needs.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import orjson
from pydantic import ValidationError

from handlers.long_records import BEFORE_LAST, LongLists
from handlers.off_loop import off_loop
from handlers.wire import Done, GenerateRequest, RequestError

_HEALTH_TIMEOUT = aiohttp.ClientTimeout(total=3)  # below the time after which the gateway counts as stalled
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5)
_LAST = (b'{"done"', b'{"error"')
_GENERATE = "http://worker/generate"
_JSON = {"content-type": "application/json"}
_BUFFER = 2**18  # bytes that may be buffered for a slow client
_LIMIT = 64 * 2**20  # bytes of one record; the last one repeats the whole text


class WorkerUnreachable(Exception):
    """The worker took no connection, or ended before it sent a response head."""


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """Health report of a worker; `kv_usage` is a fraction, `memory` in bytes.

    `loop_held` counts the steps that blocked its event loop; the longest took `loop_longest_s` seconds.
    """

    wire: int
    version: str
    device: str | None = None
    running: int = 0
    waiting: int = 0
    kv_usage: float | None = None
    context: int | None = None
    memory: int | None = None
    last_error: str | None = None
    loop_held: int = 0
    loop_longest_s: float = 0.0

    @classmethod
    def parse(cls, value: dict[str, Any]) -> Self:
        loop = value.get("loop") or {}
        return cls(
            wire=int(value["wire"]),
            version=str(value["version"]),
            device=value.get("device"),
            running=int(value.get("running") or 0),
            waiting=int(value.get("waiting") or 0),
            kv_usage=value.get("kv_usage"),
            context=value.get("context"),
            memory=value.get("memory"),
            last_error=value.get("last_error"),
            loop_held=int(loop.get("held") or 0),
            loop_longest_s=float(loop.get("longest_s") or 0.0),
        )


@dataclass(frozen=True, slots=True)
class Patience:
    """Longest waits in seconds: for the first record, connection and head included, and between records."""

    first_token_s: float
    token_s: float


def worker_died() -> RequestError:
    """The error of a stream that ended without its last record."""
    return RequestError(
        "the worker exited in the middle of the answer; it is being restarted",
        status=503,
        type="server_error",
        code="worker_died",
        retry_after_s=5,
    )


def worker_unresponsive(message: str) -> RequestError:
    """The error of a request whose worker hangs."""
    return RequestError(
        f"{message}; it is being replaced",
        status=504,
        type="server_error",
        code="worker_unresponsive",
        retry_after_s=5,
    )


class WorkerClient:
    """HTTP client of one worker's socket. Keeps no connection between calls: one that the worker has closed
    in the meantime would look like the worker's death.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def health(self) -> WorkerHealth:
        """The worker's health report. Raises WorkerUnreachable."""
        try:
            async with (
                self._session(_HEALTH_TIMEOUT) as session,
                session.get("http://worker/health") as response,
            ):
                return WorkerHealth.parse(orjson.loads(await response.read()))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as error:
            raise WorkerUnreachable(
                f"the worker did not report its health: {type(error).__name__}"
            ) from error

    async def generate(self, request: GenerateRequest, patience: Patience) -> AsyncGenerator[bytes | Done]:
        """Yield blocks of whole NDJSON lines as they come, then the parsed last record.

        Raises RequestError for an error record, for a worker that died and for a timeout; WorkerUnreachable
        if it ended before its response head. Closing the iterator cancels the generation.
        """
        # Not `model_dump_json`, which takes three times as long for a long text.
        body = await off_loop(
            request.size, lambda: orjson.dumps(request.model_dump(mode="json", exclude_none=True))
        )
        deadline = asyncio.get_running_loop().time() + patience.first_token_s
        async with self._session(_NO_TIMEOUT) as session:
            response = await _posted(session, body, patience, deadline)
            rest, first, lists = b"", True, LongLists()
            try:
                while chunk := await _read(response.content, patience, deadline if first else None):
                    first = False
                    lines, newline, rest = (rest + chunk).rpartition(b"\n")
                    if len(rest) > _LIMIT:
                        raise worker_died()
                    if not newline:
                        continue
                    before, ending = _parted(lines)
                    if before:
                        yield before
                    for line in ending:
                        if line.startswith(_LAST):
                            yield _last_record(line, lists)
                            return
                        lists.take(line)
                        await asyncio.sleep(0)  # lets other tasks run: a block may have many lines
                raise worker_died()
            finally:
                response.close()

    def _session(self, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        connector = aiohttp.UnixConnector(path=str(self._socket), force_close=True)
        return aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, read_bufsize=_BUFFER
        )


async def _posted(
    session: aiohttp.ClientSession, body: bytes, patience: Patience, deadline: float
) -> aiohttp.ClientResponse:
    """The worker's response head, by the `deadline` of the loop."""
    try:
        async with asyncio.timeout_at(deadline):
            # Bytes would be written in one step; between parts of a file other tasks run.
            return await session.post(_GENERATE, data=io.BytesIO(body), headers=_JSON)
    # A process that is being killed still takes connections, but has not begun the request.
    except aiohttp.ClientError as error:
        raise WorkerUnreachable("the worker does not accept requests") from error
    # A worker sends its response head before it begins. Without one in all that time it hangs, and
    # this request may be the cause: no other worker gets it.
    except TimeoutError as error:
        seconds = patience.first_token_s
        raise worker_unresponsive(f"the worker did not accept the request within {seconds:g} s") from error


async def _read(content: aiohttp.StreamReader, patience: Patience, first_by: float | None) -> bytes:
    """The next bytes; the first ones by `first_by`, a time of the loop."""
    try:
        if first_by is not None:
            async with asyncio.timeout_at(first_by):
                return await content.readany()
        async with asyncio.timeout(patience.token_s):
            return await content.readany()
    except TimeoutError as error:
        what, seconds = ("next", patience.token_s) if first_by is None else ("first", patience.first_token_s)
        raise RequestError(
            f"the model did not produce its {what} token within {seconds:g} s",
            status=504,
            type="server_error",
            code="token_timeout" if first_by is None else "first_token_timeout",
            retry_after_s=1,
        ) from error
    except aiohttp.ClientError as error:
        raise worker_died() from error


def _parted(lines: bytes) -> tuple[bytes, list[bytes]]:
    """Split a block into bytes to pass on unread, and the lines of the last record, once they begin."""
    if lines.startswith((*_LAST, *BEFORE_LAST)):
        return b"", lines.split(b"\n")
    begins = [at for at in (lines.find(b"\n" + mark) for mark in BEFORE_LAST) if at >= 0]
    last = lines.rfind(b"\n")
    if not begins and last >= 0 and lines.startswith(_LAST, last + 1):
        begins = [last]
    if not begins:
        return lines + b"\n", []
    at = min(begins) + 1
    return lines[:at], lines[at:].split(b"\n")


def _last_record(line: bytes, lists: LongLists) -> Done:
    try:
        record = orjson.loads(line)
        if "done" in record:
            return Done.model_validate(lists.back_in(record["done"]))
        fault = record["error"]
        error = RequestError(
            fault["message"],
            status=fault.get("status", 500),
            type=fault.get("type", "server_error"),
            code=fault.get("code"),
            param=fault.get("param"),
            retry_after_s=fault.get("retry_after_s"),
        )
    except (orjson.JSONDecodeError, ValidationError, KeyError, TypeError) as broken:
        raise worker_died() from broken
    raise error
