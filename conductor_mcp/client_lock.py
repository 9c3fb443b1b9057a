"""Lock that keeps a started gateway alive: each client holds it shared; the kernel frees it when one dies.

The gateway waits for the same lock exclusively. It gets it once the last client is gone, however that ended,
and keeps it until its own end, so that no client uses a gateway that is about to end.
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


class ClientLock:
    """An open lock file; `release` or the end of the process frees the lock."""

    def __init__(self, path: Path) -> None:
        self._file = open_private(path, os.O_RDWR)

    async def take(self, operation: int, look_s: float = _LOOK_S) -> None:
        """Wait for the lock; `operation` is LOCK_SH or LOCK_EX."""
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(self._file, operation | fcntl.LOCK_NB)
                return
            await asyncio.sleep(look_s)

    def release(self) -> None:
        os.close(self._file)


async def hold_gateway(state: StateDir) -> ClientLock:
    """Keep the gateway of `state` from ending; if one is about to end, wait for its end first."""
    hold = ClientLock(_clients(state))
    await hold.take(fcntl.LOCK_SH)
    return hold


async def until_nobody_holds(state: StateDir) -> ClientLock:
    """Wait until no client is left; the gateway keeps the returned lock until its end."""
    hold = ClientLock(_clients(state))
    await hold.take(fcntl.LOCK_EX, _GATEWAY_LOOK_S)
    return hold


@asynccontextmanager
async def only_starter(state: StateDir) -> AsyncIterator[None]:
    """Admit one client at a time to the block in which a gateway is started."""
    hold = ClientLock(state.root / "start.lock")
    try:
        await hold.take(fcntl.LOCK_EX)
        yield
    finally:
        hold.release()


def _clients(state: StateDir) -> Path:
    return state.root / "clients.lock"
