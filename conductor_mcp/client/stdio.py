"""MCP on standard input and output: one frame per line and nothing else.

Meanwhile file descriptor 1 is redirected to standard error, so that no output of a library reaches the
client.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from concurrent.futures import CancelledError as Cancelled

from conductor_core.operator import OperatorSettings
from conductor_mcp.client.relay import Relay
from conductor_mcp.client.shared_gateway import SharedGateway

_LINES = 64  # that may be read ahead


class _Out:
    """Writer of standard output, one frame at a time."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self._one = asyncio.Lock()
        self.broken = asyncio.Event()

    async def write(self, line: str) -> None:
        data = line.encode("utf-8", "surrogatepass") + b"\n"
        async with self._one:
            try:
                await asyncio.to_thread(self._write_all, data)
            except BrokenPipeError:
                self.broken.set()

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) or 0 :]


class _In:
    """Reader of standard input; its daemon thread may still block at the end of the process."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes] = asyncio.Queue(_LINES)
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    async def line(self) -> bytes:
        """The next line that is not blank, empty at the end."""
        while not (line := await self._lines.get()).strip():
            if not line:
                return b""
        return line

    def _read(self) -> None:
        line = b"?"
        try:
            while line:
                line = sys.stdin.buffer.readline()
                asyncio.run_coroutine_threadsafe(self._lines.put(line), self._loop).result()
        except (RuntimeError, Cancelled):
            return  # the loop has ended


async def serve_stdio(settings: OperatorSettings) -> None:
    """Relay until the client closes its input or output. Raises GatewayError if there is no gateway."""
    lines, out = _In(), _Out()
    gateway = SharedGateway(settings)
    relay = Relay(gateway.address, out.write)
    broken = asyncio.create_task(out.broken.wait())
    try:
        await gateway.address()
        while True:
            reading = asyncio.create_task(lines.line())
            await asyncio.wait({reading, broken}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                reading.cancel()
                break
            if not (line := reading.result()):
                break
            await relay.take(line)
    finally:
        await relay.close()
        broken.cancel()
        gateway.release()
