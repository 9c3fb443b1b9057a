"""Progress of a generation for a client that asked for it: a value that always grows, and a text.

Below 1 the value is the progress of the load, from 1 on it counts pieces of the answer. A report is sent at
least every `BEAT_S` seconds, because clients give up silent calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from mcp.server.mcpserver import Context

BEAT_S = 2.0
JOIN_S = 0.1  # pieces that come closer together are one message
_MOST = 2**16  # characters that may wait to be sent
_STEP = 1e-6  # growth of the value in a report without a change


class ToolProgress:
    """Reports the progress of one call to its client; silent if the client did not ask for it."""

    def __init__(self, ctx: Context[Any, Any]) -> None:
        meta = ctx.request_context.meta or {}
        self.is_wanted = meta.get("progress_token") is not None
        self._ctx = ctx
        self._value = 0.0
        self._pieces = 0
        self._text: list[str] = []
        self._letters = 0

    async def add(self, lines: bytes) -> None:
        """Take the deltas of whole NDJSON lines, to be sent soon, or at once if there are many."""
        if self.is_wanted:
            deltas = [
                record["delta"] for record in map(orjson.loads, lines.splitlines()) if "delta" in record
            ]
            self._pieces += len(deltas)
            self._text += deltas
            self._letters += sum(map(len, deltas))
            if self._letters > _MOST:
                await self._flush()  # makes the worker wait for a client that does not read

    @asynccontextmanager
    async def reporting(self, status: Callable[[], tuple[float, str]]) -> AsyncIterator[None]:
        """Send reports while the block runs; `status` returns the load's progress from 0 to 1 and a text."""
        if not self.is_wanted:
            yield
            return
        reporting = asyncio.create_task(self._keep_reporting(status))
        try:
            yield
        finally:
            reporting.cancel()
            await asyncio.wait({reporting})
        await self._flush()

    async def _keep_reporting(self, status: Callable[[], tuple[float, str]]) -> None:
        loop = asyncio.get_running_loop()
        due, last_message = loop.time(), ""
        while True:
            share, words = status()
            if self._text:
                await self._flush()
                due = loop.time() + BEAT_S
            elif loop.time() >= due or (words != last_message and not self._pieces):
                await self._report(share if not self._pieces else 0.0, words)
                due, last_message = loop.time() + BEAT_S, words
            await asyncio.sleep(JOIN_S)

    async def _flush(self) -> None:
        if self._text:
            text, self._text, self._letters = "".join(self._text), [], 0
            await self._report(float(self._pieces), text)

    async def _report(self, value: float, message: str) -> None:
        self._value = max(value, self._value + _STEP)
        await self._ctx.report_progress(self._value, None, message)
