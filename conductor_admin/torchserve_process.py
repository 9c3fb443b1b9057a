"""Keeps one TorchServe running: start, wait until it answers, notice its end, start again, kill all of it.

Knows processes only; who is registered on it is the lifecycle's business, which hears of every start and end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from conductor_admin import torchserve_config
from conductor_admin.processes import kill_session, wait_until_gone
from conductor_admin.torchserve import TorchServe
from conductor_core.paths import StateDir

log = structlog.get_logger()

START_TIMEOUT_S = 60.0
_POLL_S = 0.1
_GONE_TIMEOUT_S = 10.0
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class TorchServeProcess:
    """A supervised TorchServe. `started` is awaited after each start that answers, `ended` after each end."""

    def __init__(
        self,
        state: StateDir,
        java: Path,
        client: TorchServe,
        *,
        started: Callable[[], Awaitable[None]],
        ended: Callable[[], Awaitable[None]],
        spawned: Callable[[int], None],
    ) -> None:
        self._state = state
        self._java = java
        self._client = client
        self._started = started
        self._ended = ended
        self._spawned = spawned
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def supervise(self) -> None:
        """Run TorchServe until cancelled, then kill it and its workers."""
        failures = 0
        try:
            while True:
                answered = await self._run_once()
                failures = 0 if answered else failures + 1
                log.warning("torchserve_ended", answered=answered)
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
        finally:
            await self._kill()

    async def _run_once(self) -> bool:
        process = await self._spawn()
        answered = await self._wait_until_answering(process)
        if answered:
            log.info("torchserve_started", pid=process.pid)
            await self._started()
            await process.wait()
        await self._kill()
        await process.wait()
        await self._ended()
        return answered

    async def _spawn(self) -> asyncio.subprocess.Process:
        torchserve_config.write(self._state)
        with torchserve_config.output_file(self._state).open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *torchserve_config.command(self._state, self._java),
                cwd=self._state.torchserve,
                env=torchserve_config.environment(self._state, os.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._spawned(self._process.pid)
        return self._process

    async def _wait_until_answering(self, process: asyncio.subprocess.Process) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT_S):
                while process.returncode is None:
                    if await self._client.ping():
                        return True
                    await asyncio.sleep(_POLL_S)
        return False

    async def _kill(self) -> None:
        if self._process is not None:
            members = kill_session(self._process.pid)
            await asyncio.to_thread(wait_until_gone, members, _GONE_TIMEOUT_S)
            torchserve_config.sweep(self._state)
