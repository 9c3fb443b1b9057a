"""Controls the process that forks children: started at first use, restarted if it died or does not answer.

It has loaded the libraries, so that a new child takes milliseconds. multiprocessing's own fork server would
import the `__main__` of TorchServe's worker and torch with it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson

from handlers.sandbox.child import Child, read_line
from handlers.sandbox.confinement import environment

PACKAGE = Path(__file__).parent.parent
START_S = 30.0
"""Seconds to start and to load libraries: pandas and matplotlib take seconds on a busy machine."""
FORK_S = 5.0
_MOST_HELLO = 1000


class TemplateFailed(Exception):
    """No child could be started in two attempts; the message is for the client."""


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """Limits of one check: processor time in seconds, bytes that its process may allocate."""

    cpu_s: float
    memory: int


class Template:
    """Makes children that run `package`; every method waits for a bounded time. For one event loop only."""

    def __init__(self, limits: ChildLimits, package: Path = PACKAGE) -> None:
        self._limits = limits
        self._package = package
        self._turn = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._loaded: frozenset[str] = frozenset()

    async def child(self, engine: str) -> Child:
        """A new child with the libraries of `engine`; TemplateFailed if a restarted template fails too."""
        async with self._turn:
            try:
                return await self._child(engine)
            except OSError:
                self.end()
            try:
                return await self._child(engine)
            except OSError as error:
                self.end()
                raise TemplateFailed(f"the check process could not be started: {error}") from error

    def end(self) -> None:
        """Ends the process and with it all its children; the next child starts a new process."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._loaded = frozenset()

    async def _child(self, engine: str) -> Child:
        if self._control is None:
            await self._start()
        if engine not in self._loaded:
            await self._confirmed(orjson.dumps(engine))
            self._loaded |= {engine}
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            with theirs:
                assert self._control is not None
                socket.send_fds(self._control, [b"f"], [theirs.fileno()])
            async with asyncio.timeout(FORK_S):
                hello = orjson.loads(await read_line(ours, _MOST_HELLO))
            return Child(ours, hello["pid"], self._loaded)
        except BaseException:
            ours.close()
            raise

    async def _start(self) -> None:
        # It keeps message boundaries, so that a channel is never taken for the name of an engine.
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "handlers.sandbox.template_process",
                    str(theirs.fileno()),
                    str(self._limits.cpu_s),
                    str(self._limits.memory),
                ],
                env=environment(os.environ, self._package),
                cwd=self._package,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        await self._confirmed(None)

    async def _confirmed(self, message: bytes | None) -> None:
        """Sends `message`, if any, and waits for the template's confirmation."""
        assert self._control is not None
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(START_S):
            if message is not None:
                await loop.sock_sendall(self._control, message)
            if not await loop.sock_recv(self._control, 1):
                raise ConnectionResetError("it exited while it loaded its libraries")
