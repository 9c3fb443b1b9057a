"""One-way signals between processes through a named pipe, without polling."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path


class Signal:
    """A named pipe at `path`, made by the first process; `send` in one process ends `wait` in another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            os.mkfifo(path)
        # Open for reading and writing, so that neither side waits for the other and none sees an end of file.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def send(self) -> None:
        os.write(self._pipe, b".")

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._pipe, ready.set)
        try:
            while not self._taken():
                ready.clear()
                await ready.wait()
        finally:
            loop.remove_reader(self._pipe)

    def _taken(self) -> bool:
        # If several processes wait, one of them gets the signal.
        try:
            return bool(os.read(self._pipe, 1))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._pipe)
