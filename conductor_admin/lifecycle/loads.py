"""Jobs of worker sets: load, restart, unload. Each updates a WorkerSetState as its effects succeed.

Called by the modules that decide when a job is due: `lifecycle` for requests and operators, `reconciler` for
the passing of time, `admission` for memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from functools import partial
from typing import Any

import structlog

from conductor_admin.lifecycle import errors, states
from conductor_admin.lifecycle.admission import InsufficientMemory, MemoryAdmission
from conductor_admin.lifecycle.load_record import LoadRecord, Result
from conductor_admin.lifecycle.states import State
from conductor_admin.lifecycle.worker_sets import WorkerSetState
from conductor_admin.workers.liveness import Condition
from conductor_admin.workers.loader import Loader, LoadError
from conductor_admin.workers.torchserve_client import TorchServeError
from conductor_admin.workers.worker import Archive, Phase, Worker
from conductor_core.runtimes import cure_for_failure

log = structlog.get_logger()

_RETRY_S = 0.2
LAST_WORDS_S = 2.0
"""Seconds for a worker that ends by itself to report errors to its requests; then it is killed."""


class LoadJobs:
    """Runs at most one job for each set; `load_s` maps a set's memory in bytes to its load's deadline.

    `torchserve_up` is set while TorchServe answers; a load waits for it. Once `closing` is set, nothing is
    loaded any more.
    """

    def __init__(
        self, loader: Loader, admission: MemoryAdmission, load_s: Callable[[int | None], float]
    ) -> None:
        self.torchserve_up = asyncio.Event()
        self.closing = False
        self._loader = loader
        self._admission = admission
        self._load_s = load_s
        self._ending: set[asyncio.Task[None]] = set()
        admission.evict = self.evict

    def begin_load(
        self, entry: WorkerSetState, phase: Phase = "start", *, may_evict: bool = True
    ) -> asyncio.Task[None]:
        if entry.job and not entry.job.done():
            return entry.job
        entry.may_evict = may_evict
        entry.state, entry.wanted, entry.load_record = State.LOADING, True, LoadRecord(entry.name)
        entry.enter(phase)
        return self._run(entry, self._load(entry))

    def begin_unload(self, entry: WorkerSetState, archive: Archive, *, drain: bool) -> asyncio.Task[None]:
        """End the set's workers, after their requests if `drain`."""
        entry.state = State.UNLOADING
        entry.enter(None)
        return self._run(entry, self._unload(entry, archive, drain=drain))

    async def end(self, entry: WorkerSetState, *, drain: bool) -> None:
        """Bring the set to UNAVAILABLE from any state, after running answers if `drain`."""
        if entry.job and entry.has_job:
            # An unload that releases memory already is not interrupted, only its wait for answers.
            if entry.state is State.LOADING or (entry.in_flight and not drain):
                entry.job.cancel()
            await asyncio.wait({entry.job})
        if entry.state is State.FAILED:
            entry.state, entry.failure = State.UNAVAILABLE, None
        if entry.archive and entry.registered:
            await asyncio.wait({self.begin_unload(entry, entry.archive, drain=drain)})

    def evict(self, entry: WorkerSetState) -> None:
        """Begin to unload a READY set once its requests have ended."""
        if entry.archive:
            self.begin_unload(entry, entry.archive, drain=True)

    def lost(self, entry: WorkerSetState, worker: Worker) -> None:
        """Remove a worker that is gone or hangs; a set without workers is LOADING until a new one answers.

        The rest of its process is killed, so that TorchServe starts another one.
        """
        if entry.workers.pop(worker.pid, None) is None:
            return
        entry.dead.add(worker.pid)
        entry.replacing = True
        hung = worker.condition is Condition.HUNG
        self._end(worker.pid, 0 if hung else LAST_WORDS_S)
        self._admission.listener.worker_lost(entry.name)
        log.warning("worker_lost", set=entry.name, pid=worker.pid, hung=hung, left=len(entry.workers))
        if not entry.workers and entry.state is State.READY and not self.closing:
            self.begin_load(entry, "restart")

    async def adopt_more(self, entry: WorkerSetState) -> None:
        """Adopt workers of a READY set that have begun to answer; end those that never do."""
        known = {*entry.workers, *entry.dead}
        if entry.archive is None or entry.job is None or not entry.job.done():
            return
        try:
            found, silent = await self._loader.more_workers(entry.archive, known)
        except (TorchServeError, LoadError) as error:
            log.warning("worker_not_adopted", set=entry.name, cause=str(error))
            return
        if entry.state is not State.READY:
            return
        for worker in found:
            entry.workers.setdefault(worker.pid, worker)
        entry.replacing = entry.replacing and len(entry.workers) < entry.worker_set.workers
        self._end_late(entry, silent)

    def _end_late(self, entry: WorkerSetState, silent: Collection[int]) -> None:
        """End those of the `silent` workers that did not answer within the deadline of a load."""
        now, limit = time.monotonic(), self._load_s(entry.worker_set.declared_memory)
        entry.starting = {pid: entry.starting.get(pid, now) for pid in silent}
        for pid, since in entry.starting.items():
            if now - since >= limit:
                entry.dead.add(pid)
                log.warning("worker_never_answered", set=entry.name, pid=pid, seconds=limit)
                self._end(pid, 0)

    def _end(self, pid: int, grace_s: float) -> None:
        task = asyncio.create_task(self._loader.end_worker(pid, grace_s=grace_s), name=f"end of {pid}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Wait until the workers that were lost have ended."""
        if self._ending:
            await asyncio.wait(set(self._ending))

    def _run(self, entry: WorkerSetState, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        entry.job = asyncio.create_task(work, name=f"{entry.name} job")
        return entry.job

    async def _load(self, entry: WorkerSetState) -> None:
        """Bring the set to READY or FAILED; ends without an exception, cancelled or not."""
        try:
            await self._try_load(entry)
        except InsufficientMemory as error:
            self._refused(entry, str(error))
        except LoadError as error:
            cure = cure_for_failure(str(error))
            await self._failed(entry, f"{error}; {cure}" if cure else str(error))
        except asyncio.CancelledError:
            await self._forget(entry)
            entry.state = State.UNAVAILABLE
            self._ended(entry, "cancelled")
        except Exception as error:  # the outermost loop of a job: a defect fails the set and its waiters
            log.exception("load_broke", set=entry.name)
            await self._failed(entry, f"internal error: {type(error).__name__}")
        self._admission.settle()

    async def _try_load(self, entry: WorkerSetState) -> None:
        self._admission.check(entry)
        if entry.archive is None or not entry.registered:
            entry.archive = await self._loader.build(entry.worker_set, partial(_report, entry))
        else:
            # TorchServe has begun to load this archive again.
            await self._loader.check(entry.worker_set)
        try:
            await self._start(entry, entry.archive)
        except LoadError as error:
            if not entry.may_evict or not states.is_out_of_memory(str(error)):
                raise
            log.warning("load_out_of_memory", set=entry.name, cause=str(error))
            await self._forget(entry)
            await self._admission.clear_for(entry)
            await self._start(entry, entry.archive)

    async def _start(self, entry: WorkerSetState, archive: Archive) -> None:
        """Load the set once it may take its memory. Raises LoadError."""
        is_restart = entry.phase == "restart"
        self._admission.measurements.expect(entry)
        await self._admission.admit(entry)
        entry.enter("restart" if is_restart else "start")
        entry.started_at = time.monotonic()
        deadline = self._load_s(entry.worker_set.declared_memory)
        try:
            async with asyncio.timeout(deadline) as limit:
                await self._start_worker(entry, archive, partial(self._torchserve, limit, deadline))
        except TimeoutError as error:
            raise LoadError(f"no worker answered within {deadline:g} s") from error

    async def _torchserve(self, limit: asyncio.Timeout, seconds: float) -> None:
        """Wait until TorchServe answers; the wait does not count against the load's deadline."""
        if not self.torchserve_up.is_set():
            limit.reschedule(None)
            await self.torchserve_up.wait()
            limit.reschedule(asyncio.get_running_loop().time() + seconds)

    async def _start_worker(
        self, entry: WorkerSetState, archive: Archive, torchserve: Callable[[], Awaitable[None]]
    ) -> None:
        told = None
        while True:
            await torchserve()
            try:
                if not entry.registered:
                    entry.dead.clear()
                    await self._loader.register(archive)
                    entry.registered = True
                worker = await self._loader.first_worker(archive, entry.dead)
            except TorchServeError as error:
                # TorchServe has ended or was restarted: the archive must be registered again.
                if str(error) != told:
                    told = str(error)
                    log.warning("torchserve_lost_set", set=entry.name, cause=told)
                entry.registered = False
                await asyncio.sleep(_RETRY_S)
                continue
            entry.workers[worker.pid] = worker
            self._ready(entry)
            return

    def _ready(self, entry: WorkerSetState) -> None:
        now = time.monotonic()
        if entry.phase == "start":
            self._admission.measurements.loaded(entry, now - entry.started_at)
        entry.state, entry.failure = State.READY, None
        self._ended(entry, "ready")
        entry.ended_by, entry.peak = None, {}
        entry.replacing = entry.replacing and len(entry.workers) < entry.worker_set.workers
        # A timer that began with the load would end a set that took long to load.
        entry.expires = entry.idleness.expires(now)
        self._admission.measurements.measure(entry)
        log.info("set_ready", set=entry.name, pids=list(entry.workers), memory=entry.measured)

    def _ended(self, entry: WorkerSetState, result: Result) -> None:
        entry.enter(None)
        if entry.load_record:
            entry.load_record.end(result)
            self._admission.listener.load_ended(entry.load_record)

    def _refused(self, entry: WorkerSetState, message: str) -> None:
        if entry.failure is None or entry.failure.message != message:
            log.error("set_refused", set=entry.name, cause=message)
        entry.failure = states.refused(message, time.monotonic())
        entry.state = State.FAILED
        self._ended(entry, "refused")

    async def _failed(self, entry: WorkerSetState, message: str) -> None:
        await self._forget(entry)
        entry.failure = states.failed(message, entry.failure, time.monotonic())
        entry.state = State.FAILED
        self._ended(entry, "failed")
        # The next load builds again, because a missing or broken input may be the cause.
        entry.archive = None
        log.error("set_failed", set=entry.name, cause=message, failures=entry.failure.count)

    async def _unload(self, entry: WorkerSetState, archive: Archive, *, drain: bool) -> None:
        if drain and entry.in_flight:
            entry.drained.clear()
            await entry.drained.wait()
        if drain:
            await self._admission.measurements.sample(entry)  # the last chance to measure its memory
        entry.ended_by = errors.unloaded
        await self._forget(entry)
        entry.state = State.UNAVAILABLE
        log.info("set_unloaded", set=entry.name)

    async def _forget(self, entry: WorkerSetState) -> None:
        """Unregister at once: TorchServe would restart a worker that fails to load for five minutes."""
        workers = list(entry.workers.values())
        entry.workers.clear()
        entry.starting.clear()
        entry.replacing = False
        if entry.archive and entry.registered:
            entry.registered = False
            await self._loader.unregister(entry.archive, [worker.pid for worker in workers])
        for worker in workers:
            entry.dead.add(worker.pid)
        self._admission.gave_back(entry)


def _report(entry: WorkerSetState, phase: Phase, progress: float | None) -> None:
    entry.enter(phase, progress)
