"""Effects of loading a worker set: build, register, find the worker's socket, unregister.

Knows TorchServe and the build tool through two small interfaces, and keeps no state between calls;
`conductor_admin.lifecycle.lifecycle` decides the consequences of a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol

import orjson
import structlog

from archives.weights_info import KnownWeights
from conductor_admin.memory.machine import kernel_oom_kills
from conductor_admin.workers.client import WorkerClient, WorkerUnreachable
from conductor_admin.workers.torchserve_client import TorchServeError, WorkerProcess
from conductor_admin.workers.worker import Archive, Phase, Worker, health_fault
from conductor_core.catalogue import WorkerSet
from conductor_core.files import read_bounded
from conductor_core.paths import StateDir
from conductor_core.processes import end_all, families, is_alive

log = structlog.get_logger()

_POLL_S = 0.1
_GONE_TIMEOUT_S = 10.0
_LARGEST_NOTICE = 64 * 2**10
_SHOWN = 500  # characters of a traceback's last line
_SILENT_END = (
    "the worker exited while loading without a message, as if it had been killed; see logs/torchserve.log"
)
_OOM_END = "the kernel killed the worker while it was loading: out of memory"

Report = Callable[[Phase, float | None], None]


class LoadError(Exception):
    """A worker set cannot be loaded; the message is the cause in one line."""


class Processes(Protocol):
    """TorchServe's management calls; they raise TorchServeError."""

    async def register(self, archive: str) -> None: ...

    async def describe(self, name: str, version: str) -> list[WorkerProcess]: ...

    async def unregister(self, name: str, version: str) -> None: ...


class ArchiveBuilder(Protocol):
    """The build tool; `report` may be called from the event loop only. Raises LoadError."""

    async def build(self, worker_set: WorkerSet, report: Report) -> Archive: ...

    async def check(self, worker_set: WorkerSet) -> None: ...

    async def survey(self, worker_set: WorkerSet) -> KnownWeights: ...


class Loader:
    """Loads and unloads worker sets on one TorchServe."""

    def __init__(self, processes: Processes, builder: ArchiveBuilder, state: StateDir) -> None:
        self._processes = processes
        self._builder = builder
        self._state = state

    async def build(self, worker_set: WorkerSet, report: Report) -> Archive:
        """The archive of `worker_set`, built if it is missing or stale."""
        return await self._builder.build(worker_set, report)

    async def check(self, worker_set: WorkerSet) -> None:
        """Raise LoadError if the set's weights are no longer those of the build."""
        await self._builder.check(worker_set)

    async def survey(self, worker_set: WorkerSet) -> KnownWeights:
        """Known facts about the set's weights before they are built; downloads nothing."""
        return await self._builder.survey(worker_set)

    async def register(self, archive: Archive) -> None:
        """Start the archive's workers. Raises LoadError if TorchServe refuses the archive."""
        try:
            await self._processes.register(archive.file)
        except TorchServeError as error:
            if error.status == 0:
                raise
            if error.status != 409:
                raise LoadError(f"TorchServe refuses {archive.file}: {error}") from error

    async def first_worker(self, archive: Archive, dead: Collection[int]) -> Worker:
        """Wait for a worker that answers and serves this archive.

        Raises LoadError with the last line of its traceback if a worker fails to load, TorchServeError if
        TorchServe is gone or no longer knows the archive. Pids in `dead` are ignored.
        """
        seen: set[int] = set()
        oom_kills = kernel_oom_kills()
        while True:
            described = await self._processes.describe(archive.name, archive.version)
            seen |= {process.pid for process in described} - set(dead)
            for pid in seen:
                if worker := await self.adopt(pid, archive):
                    return worker
                alive = is_alive(pid)
                notice, words = self._read_notice(pid), ""
                if notice:
                    # On one line: libraries put line ends into their messages.
                    words = " ".join(str(notice.get("error") or _SILENT_END).split())[:_SHOWN]
                if words or not alive:
                    raise LoadError(words or (_SILENT_END if kernel_oom_kills() == oom_kills else _OOM_END))
            await asyncio.sleep(_POLL_S)

    async def more_workers(self, archive: Archive, known: Collection[int]) -> tuple[list[Worker], set[int]]:
        """Workers of the archive that are not in `known`: those that answer, and the pids of the others."""
        described = await self._processes.describe(archive.name, archive.version)
        pids = {process.pid for process in described} - set(known)
        found = await asyncio.gather(*(self.adopt(pid, archive) for pid in pids))
        workers = [worker for worker in found if worker]
        return workers, pids - {worker.pid for worker in workers}

    async def adopt(self, pid: int, archive: Archive) -> Worker | None:
        """The worker `pid` if its socket answers, else None; LoadError if it must not be used."""
        socket = self._state.worker_socket(pid)
        if not socket.exists():
            return None
        client = WorkerClient(socket)
        try:
            health = await client.health()
        except WorkerUnreachable:
            return None
        if fault := health_fault(health, archive.version):
            raise LoadError(fault)
        return Worker(pid=pid, client=client, health=health)

    async def unregister(self, archive: Archive, pids: Collection[int]) -> None:
        """End the workers, and wait until they, `pids` and all their children are gone with their memory.

        If TorchServe does not answer, its workers end with it.
        """
        known = set(pids)
        with contextlib.suppress(TorchServeError):
            known |= {
                process.pid for process in await self._processes.describe(archive.name, archive.version)
            }
        ended = families(known)
        try:
            await self._processes.unregister(archive.name, archive.version)
        except TorchServeError as error:
            log.warning("unregister_failed", archive=archive.file, cause=str(error), status=error.status)
        await asyncio.to_thread(end_all, ended, _GONE_TIMEOUT_S)
        # TorchServe may have started workers after it was last asked: their notices name them.
        noticed = (int(file.stem) for file in self._state.run.glob("*.error") if file.stem.isdigit())
        known |= {pid for pid in noticed if self._read_notice(pid).get("version") == archive.version}
        self.sweep(known)

    async def end_worker(self, pid: int, *, grace_s: float) -> None:
        """End one worker and its children, by kill after `grace_s`; TorchServe starts another one."""
        if not await asyncio.to_thread(lambda: end_all(families([pid]), _GONE_TIMEOUT_S, grace_s=grace_s)):
            log.error("worker_not_gone", pid=pid, seconds=_GONE_TIMEOUT_S)
        self.sweep([pid])

    def sweep(self, pids: Collection[int]) -> None:
        """Remove files of ended workers from the run folder: a later process may get their pid."""
        for pid in pids:
            if not is_alive(pid):
                self._state.worker_socket(pid).unlink(missing_ok=True)
                self._notice(pid).unlink(missing_ok=True)

    def _read_notice(self, pid: int) -> dict[str, Any]:
        try:
            notice = orjson.loads(read_bounded(self._notice(pid), _LARGEST_NOTICE))
        except FileNotFoundError:
            return {}
        except (OSError, orjson.JSONDecodeError):
            return {"error": None}
        return dict(notice) if isinstance(notice, dict) else {"error": None}

    def _notice(self, pid: int) -> Path:
        return self._state.run / f"{pid}.error"
