"""Keeps one TorchServe running: starts it, waits for its answer, detects its end and silence, replaces it.

Knows processes only; the lifecycle, which is notified of every start and end, registers archives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from conductor_admin.workers import torchserve_config
from conductor_admin.workers.cleanup import finish
from conductor_admin.workers.torchserve_client import TorchServe, TorchServeError
from conductor_admin.workers.torchserve_watch import PING_EVERY_S, Pulse
from conductor_core.files import fault
from conductor_core.paths import StateDir
from conductor_core.processes import kill_session, wait_until_gone
from handlers.diagnostics.library_log import rotate

log = structlog.get_logger()

START_TIMEOUT_S = 60.0
_POLL_S = 0.1
_GONE_TIMEOUT_S = 10.0
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Listener(Protocol):
    """Listener for starts and ends of TorchServe, and for silences and their ends in between."""

    async def torchserve_started(self) -> None: ...

    async def torchserve_ended(self) -> None: ...

    def torchserve_silent(self, fault: str) -> None: ...

    def torchserve_heard(self) -> None: ...


class TorchServeProcess:
    """A supervised TorchServe. `spawned` gets the pid of each process, which is the leader of its session."""

    def __init__(
        self,
        state: StateDir,
        java: Path,
        client: TorchServe,
        listener: Listener,
        *,
        spawned: Callable[[int], None],
    ) -> None:
        self._state = state
        self._java = java
        self._client = client
        self._listener = listener
        self._spawned = spawned
        self._process: asyncio.subprocess.Process | None = None
        self._lifeline: int | None = None  # pipe to the guard, which kills all at its end
        self._token_fault: str | None = None

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
            await finish(self._kill())

    async def _run_once(self) -> bool:
        try:
            # Must not be cancelled: a process that was started but not recorded would never be killed.
            process = await finish(self._spawn())
        except OSError as error:  # a full disk, for one, which must not end the gateway
            log.error("torchserve_not_started", cause=fault(error))
            await finish(self._kill())
            return False
        answered = await self._wait_until_answering(process)
        if answered:
            log.info("torchserve_started", pid=process.pid)
            await self._listener.torchserve_started()
            await self._until_lost(process)
        await finish(self._kill())
        await self._listener.torchserve_ended()
        return answered

    async def _spawn(self) -> asyncio.subprocess.Process:
        # In a thread: a slow disk takes a second to remove unpacked files, and streams must go on.
        await asyncio.to_thread(torchserve_config.write, self._state)
        guard_end, self._lifeline = os.pipe()
        try:
            with torchserve_config.output_file(self._state).open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *torchserve_config.command(self._state, self._java),
                    cwd=self._state.torchserve,
                    env=torchserve_config.environment(self._state, os.environ),
                    stdin=guard_end,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        finally:
            os.close(guard_end)
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

    async def _until_lost(self, process: asyncio.subprocess.Process) -> None:
        """Return once TorchServe has ended, or has been silent for too long."""
        ended = asyncio.ensure_future(process.wait())
        pulse = Pulse(time.monotonic())
        try:
            while not pulse.is_lost(time.monotonic()):
                await asyncio.wait({ended}, timeout=PING_EVERY_S)
                fault = None if ended.done() else await self._client.fault()
                if ended.done():
                    return
                was_silent = pulse.is_silent
                pulse = pulse.after(time.monotonic(), answered=fault is None)
                # Silence and its end are reported and logged once.
                if fault is None and was_silent:
                    log.info("torchserve_heard_again")
                    self._listener.torchserve_heard()
                if fault is not None and not was_silent:
                    log.warning("torchserve_silent", cause=fault)
                    self._listener.torchserve_silent(fault)
                await self._tend(pulse)
            log.error(
                "torchserve_given_up", pid=process.pid, silent_s=round(time.monotonic() - pulse.last_answer)
            )
        finally:
            ended.cancel()

    async def _tend(self, pulse: Pulse) -> None:
        await asyncio.to_thread(rotate, torchserve_config.output_file(self._state))
        if pulse.is_silent:
            return
        try:
            await self._client.renew_when_due()
            fault = None
        except TorchServeError as error:
            fault = str(error)
        if fault is not None and fault != self._token_fault:
            log.warning("torchserve_token_not_renewed", cause=fault)
        self._token_fault = fault

    async def _kill(self) -> None:
        """Kill all processes, stopped ones too, and remove their files. Limited in time."""
        if self._process is not None:
            members = kill_session(self._process.pid)
            if not await asyncio.to_thread(wait_until_gone, members, _GONE_TIMEOUT_S):
                log.error("torchserve_not_gone", pids=members)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _GONE_TIMEOUT_S)
            await asyncio.to_thread(torchserve_config.sweep, self._state)
            self._process = None
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
