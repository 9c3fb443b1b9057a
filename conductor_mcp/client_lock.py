"""Who keeps a started gateway alive: each client holds a shared lock, which the kernel takes from the dead.

The gateway asks for the same lock alone: it gets it when the last client has gone, however that ended, and
keeps it until its own end, so that nobody takes a gateway that is about to leave.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from conductor_core.files import open_private
from conductor_core.paths import StateDir

_LOOK_S = 0.1
_GATEWAY_LOOK_S = 1.0


class Hold:
    """An open lock file; closing it, or the end of the process, gives the lock back."""

    def __init__(self, path: Path) -> None:
        self._file = open_private(path, os.O_RDWR)

    async def take(self, operation: int, look_s: float = _LOOK_S) -> None:
        """Wait for the lock; `operation` is LOCK_SH or LOCK_EX."""
        while not self._try(operation):
            await asyncio.sleep(look_s)

    def _try(self, operation: int) -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(self._file, operation | fcntl.LOCK_NB)
            return True
        return False

    def release(self) -> None:
        os.close(self._file)


async def hold_gateway(state: StateDir) -> Hold:
    """Keep the gateway of `state` from ending; waits for one that is about to."""
    hold = Hold(_clients(state))
    await hold.take(fcntl.LOCK_SH)
    return hold


async def until_nobody_holds(state: StateDir) -> Hold:
    """Returns when no client is left; the gateway keeps what it gets until it has ended."""
    hold = Hold(_clients(state))
    await hold.take(fcntl.LOCK_EX, _GATEWAY_LOOK_S)
    return hold


@asynccontextmanager
async def only_starter(state: StateDir) -> AsyncIterator[None]:
    """Of several clients that find no gateway, one at a time is in this block."""
    hold = Hold(state.root / "start.lock")
    try:
        await hold.take(fcntl.LOCK_EX)
        yield
    finally:
        hold.release()


def _clients(state: StateDir) -> Path:
    return state.root / "clients.lock"
