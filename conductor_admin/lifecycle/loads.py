"""Jobs of worker sets: load, restart, unload; and the one loop that carries out decisions about memory.

Called by the modules that decide when a job is due: `leases` for requests, `lifecycle` for operators,
`rollout` for edits, `reconciler` for the passing of time. Only this module writes a LoadState; its state
changes by the table of transitions in `states`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from functools import partial
from typing import Any

import structlog

from conductor_admin.lifecycle import errors, states
from conductor_admin.lifecycle.admission import Eviction, InsufficientMemory, MemoryAdmission
from conductor_admin.lifecycle.load_record import LifecycleListener, LoadRecord, NullListener, Result
from conductor_admin.lifecycle.set_state import WorkerSetState
from conductor_admin.lifecycle.states import Event, State
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
        self,
        loader: Loader,
        admission: MemoryAdmission,
        load_s: Callable[[int | None], float],
        listener: LifecycleListener | None = None,
    ) -> None:
        self.torchserve_up = asyncio.Event()
        self.closing = False
        self._loader = loader
        self._admission = admission
        self._load_s = load_s
        self._listener = listener or NullListener()
        self._ending: set[asyncio.Task[None]] = set()

    def settle(self) -> None:
        """Carry out every decision about memory that is due; called after each event that may change one."""
        while evictions := self._admission.settle():
            for eviction in evictions:
                log.info("set_evicted", set=eviction.entry.key, for_set=eviction.sake and eviction.sake.key)
                self._carry_out(eviction)

    def relieve(self) -> None:
        """Unload sets if the loaded ones have grown beyond the budget."""
        for eviction in self._admission.overrun():
            held, budget = self._admission.charged, self._admission.budget
            log.warning("memory_overrun", set=eviction.entry.key, budget=budget, held=held)
            self._carry_out(eviction)

    def _carry_out(self, eviction: Eviction) -> None:
        entry, sake = eviction.entry, eviction.sake
        if sake and sake.load.record:
            sake.load.record.took_the_place_of(entry.name, eviction.why)
        self._listener.evicted(entry.name, eviction.why)
        self.evict(entry)

    def begin_load(
        self, entry: WorkerSetState, phase: Phase = "start", *, may_evict: bool = True
    ) -> asyncio.Task[None]:
        """Load the set, or join its running job; `phase` is "restart" after its last worker was lost."""
        if entry.load.running_job:
            return entry.load.running_job
        entry.load.may_evict = may_evict
        _change(entry, Event.WORKERS_LOST if phase == "restart" else Event.LOAD_BEGAN)
        entry.load.wanted, entry.load.record = True, LoadRecord(entry.name)
        _enter(entry, phase)
        # A task of its own: a second cancel must not reach the end of the load, which gives back its memory.
        entry.load.attempt = asyncio.create_task(self._try_load(entry), name=f"{entry.name} attempt")
        return self._run(entry, self._load(entry, entry.load.attempt))

    def begin_unload(self, entry: WorkerSetState, *, drain: bool) -> asyncio.Task[None]:
        """End the set's workers, after their requests if `drain`; or join its running unload."""
        if entry.load.state is State.UNLOADING and entry.load.running_job:
            return entry.load.running_job
        _change(entry, Event.UNLOAD_BEGAN)
        _enter(entry, None)
        return self._run(entry, self._unload(entry, drain=drain))

    async def end(self, entry: WorkerSetState, *, drain: bool) -> None:
        """Bring the set to UNAVAILABLE from any state, after running answers if `drain`."""
        load = entry.load
        if job := load.running_job:
            self.cancel_load(entry)
            if load.in_flight and not drain:
                # An unload that releases memory already is not interrupted, only its wait for answers.
                entry.use.end_drain()
            await asyncio.wait({job})
        self.forget_failure(entry)
        has_new_load = load.state is State.LOADING and load.running_job
        if load.state is not State.UNAVAILABLE and not has_new_load:
            await asyncio.wait({self.begin_unload(entry, drain=drain)})

    def cancel_load(self, entry: WorkerSetState) -> None:
        """Cancel the set's load, if one runs; it gives back what it has."""
        if entry.load.attempt:
            entry.load.attempt.cancel()

    def evict(self, entry: WorkerSetState) -> None:
        """Begin to unload a READY set once its requests have ended."""
        if entry.load.archive:
            self.begin_unload(entry, drain=True)

    def allow_eviction(self, entry: WorkerSetState) -> None:
        """Let the running load evict other sets, because a request joins it that may."""
        entry.load.may_evict = True
        self.settle()

    def forget_failure(self, entry: WorkerSetState) -> None:
        """End the cool-down of a FAILED set, so that its next load begins as the first one."""
        if entry.load.state is State.FAILED:
            _change(entry, Event.FAILURE_FORGOTTEN)
            entry.load.failure = None

    def set_wanted(self, entry: WorkerSetState, *, wanted: bool) -> None:
        """Say whether a set that should stay loaded is loaded again by itself."""
        entry.load.wanted = wanted

    def give_workers_away(self, entry: WorkerSetState) -> None:
        """Forget the set's workers, because another set with the same archive has adopted them."""
        entry.load.registered = False
        entry.load.workers.clear()

    def torchserve_ended(self, entry: WorkerSetState) -> None:
        """All workers of the set have ended with TorchServe, which knows none of its archives any more."""
        entry.load.registered = False
        for worker in list(entry.load.workers.values()):
            self.lost(entry, worker)

    def refuse(self, entries: Iterable[WorkerSetState]) -> None:
        """Load nothing from now on; streams that break off get `shutting_down` as their error."""
        self.closing = True
        for entry in entries:
            entry.load.ended_by = lambda _: errors.shutting_down()

    def lost(self, entry: WorkerSetState, worker: Worker) -> None:
        """Remove a worker that is gone or hangs; a set without workers is LOADING until a new one answers.

        The rest of its process is killed, so that TorchServe starts another one.
        """
        load = entry.load
        if load.workers.pop(worker.pid, None) is None:
            return
        load.dead.add(worker.pid)
        load.replacing = True
        hung = worker.condition is Condition.HUNG
        self._end(worker.pid, 0 if hung else LAST_WORDS_S)
        self._listener.worker_lost(entry.name)
        log.warning("worker_lost", set=entry.name, pid=worker.pid, hung=hung, left=len(load.workers))
        if not load.workers and load.state is State.READY and not self.closing:
            self.begin_load(entry, "restart")

    async def adopt_more(self, entry: WorkerSetState) -> None:
        """Adopt workers of a READY set that have begun to answer; end those that never do."""
        load = entry.load
        if load.archive is None or load.job is None or load.running_job:
            return
        try:
            found, silent = await self._loader.more_workers(load.archive, {*load.workers, *load.dead})
        except (TorchServeError, LoadError) as error:
            log.warning("worker_not_adopted", set=entry.name, cause=str(error))
            return
        if load.state is not State.READY:
            return
        for worker in found:
            load.workers.setdefault(worker.pid, worker)
        load.replacing = load.replacing and len(load.workers) < entry.worker_set.workers
        self._end_late(entry, silent)

    def _end_late(self, entry: WorkerSetState, silent: Collection[int]) -> None:
        """End those of the `silent` workers that did not answer within the deadline of a load."""
        now, limit = time.monotonic(), self._load_s(entry.worker_set.declared_memory)
        entry.load.starting = {pid: entry.load.starting.get(pid, now) for pid in silent}
        for pid, since in entry.load.starting.items():
            if now - since >= limit:
                entry.load.dead.add(pid)
                log.warning("worker_never_answered", set=entry.name, pid=pid, seconds=limit)
                self._end(pid, 0)

    def _end(self, pid: int, grace_s: float) -> None:
        task = asyncio.create_task(self._loader.end_worker(pid, grace_s=grace_s), name=f"end of {pid}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self, entries: Iterable[WorkerSetState]) -> None:
        """Cancel all jobs, and wait until the workers that were lost have ended."""
        jobs = set()
        for entry in entries:
            self.cancel_load(entry)
            if job := entry.load.running_job:
                job.cancel()
                jobs.add(job)
        if jobs:
            await asyncio.wait(jobs)
        if self._ending:
            await asyncio.wait(set(self._ending))

    def _run(self, entry: WorkerSetState, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        job = entry.load.job = asyncio.create_task(work, name=f"{entry.name} job")
        return job

    async def _load(self, entry: WorkerSetState, attempt: asyncio.Task[Worker]) -> None:
        """Bring the set to READY or FAILED; ends without an exception, cancelled or not."""
        try:
            self._ready(entry, await attempt)
        except InsufficientMemory as error:
            self._refused(entry, str(error))
        except LoadError as error:
            cure = cure_for_failure(str(error))
            await self._failed(entry, f"{error}; {cure}" if cure else str(error))
        except asyncio.CancelledError:
            await self._forget(entry)
            _change(entry, Event.LOAD_CANCELLED)
            self._ended(entry, "cancelled")
        except Exception as error:  # the outermost loop of a job: a defect fails the set and its waiters
            log.exception("load_broke", set=entry.name)
            await self._failed(entry, f"internal error: {type(error).__name__}")
        self.settle()

    async def _try_load(self, entry: WorkerSetState) -> Worker:
        load = entry.load
        self._admission.check(entry)
        if load.archive is None or not load.registered:
            load.archive = await self._loader.build(entry.worker_set, partial(_enter, entry))
        else:
            # TorchServe has begun to load this archive again.
            await self._loader.check(entry.worker_set)
        try:
            return await self._start(entry, load.archive)
        except LoadError as error:
            if not load.may_evict or not states.is_out_of_memory(str(error)):
                raise
            log.warning("load_out_of_memory", set=entry.name, cause=str(error))
            await self._forget(entry)
            await self._clear_for(entry)
            return await self._start(entry, load.archive)

    async def _start(self, entry: WorkerSetState, archive: Archive) -> Worker:
        """Load the set once it may take its memory. Raises LoadError."""
        load = entry.load
        is_restart = load.phase == "restart"
        if load.seconds is None:
            load.seconds = self._admission.measurements.load_s(entry)
        if entry.memory.held is None:
            await self._wait_for_memory(entry)
        _enter(entry, "restart" if is_restart else "start")
        load.started_at = time.monotonic()
        deadline = self._load_s(entry.worker_set.declared_memory)
        try:
            async with asyncio.timeout(deadline) as limit:
                return await self._start_worker(entry, archive, partial(self._torchserve, limit, deadline))
        except TimeoutError as error:
            raise LoadError(f"no worker answered within {deadline:g} s") from error

    async def _wait_for_memory(self, entry: WorkerSetState) -> None:
        _enter(entry, "wait")
        with self._admission.queue(entry) as answer:
            if entry.load.record and entry.memory.position and entry.memory.queue:
                entry.load.record.queued(entry.memory.position, entry.memory.queue)
            self.settle()
            await answer
        _enter(entry, "start")

    async def _clear_for(self, entry: WorkerSetState) -> None:
        """Unload every idle set that shares a device with this one, and wait until they are gone."""
        for eviction in self._admission.spare_for(entry):
            self._carry_out(eviction)
        if leaving := self._admission.leaving():
            await asyncio.wait(leaving)

    async def _torchserve(self, limit: asyncio.Timeout, seconds: float) -> None:
        """Wait until TorchServe answers; the wait does not count against the load's deadline."""
        if not self.torchserve_up.is_set():
            limit.reschedule(None)
            await self.torchserve_up.wait()
            limit.reschedule(asyncio.get_running_loop().time() + seconds)

    async def _start_worker(
        self, entry: WorkerSetState, archive: Archive, torchserve: Callable[[], Awaitable[None]]
    ) -> Worker:
        load, told = entry.load, None
        while True:
            await torchserve()
            try:
                if not load.registered:
                    load.dead.clear()
                    await self._loader.register(archive)
                    load.registered = True
                return await self._loader.first_worker(archive, load.dead)
            except TorchServeError as error:
                # TorchServe has ended or was restarted: the archive must be registered again.
                if str(error) != told:
                    told = str(error)
                    log.warning("torchserve_lost_set", set=entry.name, cause=told)
                load.registered = False
                await asyncio.sleep(_RETRY_S)

    def _ready(self, entry: WorkerSetState, worker: Worker) -> None:
        load = entry.load
        load.workers[worker.pid] = worker
        if load.phase == "start":
            load.seconds = time.monotonic() - load.started_at
            self._admission.measurements.loaded(entry, load.seconds)
        _change(entry, Event.LOADED)
        load.failure = load.ended_by = None
        self._ended(entry, "ready")
        load.replacing = load.replacing and len(load.workers) < entry.worker_set.workers
        # A timer that began with the load would end a set that took long to load.
        entry.use.begin_idle_time(entry.idleness)
        self._admission.measure_loaded(entry)
        log.info("set_ready", set=entry.name, pids=list(load.workers), memory=entry.memory.measured)

    def _ended(self, entry: WorkerSetState, result: Result) -> None:
        _enter(entry, None)
        if entry.load.record:
            entry.load.record.end(result)
            self._listener.load_ended(entry.load.record)

    def _refused(self, entry: WorkerSetState, message: str) -> None:
        load = entry.load
        if load.failure is None or load.failure.message != message:
            log.error("set_refused", set=entry.name, cause=message)
        load.failure = states.refused(message, time.monotonic())
        _change(entry, Event.LOAD_REFUSED)
        self._ended(entry, "refused")

    async def _failed(self, entry: WorkerSetState, message: str) -> None:
        await self._forget(entry)
        load = entry.load
        load.failure = states.failed(message, load.failure, time.monotonic())
        _change(entry, Event.LOAD_FAILED)
        self._ended(entry, "failed")
        # The next load builds again, because a missing or broken input may be the cause.
        load.archive = None
        log.error("set_failed", set=entry.name, cause=message, failures=load.failure.count)

    async def _unload(self, entry: WorkerSetState, *, drain: bool) -> None:
        if drain:
            if entry.load.in_flight:
                await entry.use.drained.wait()
            if not entry.load.in_flight:
                await self._admission.sample(entry)  # the last chance to measure its memory
        entry.load.ended_by = errors.unloaded
        await self._forget(entry)
        _change(entry, Event.UNLOADED)
        log.info("set_unloaded", set=entry.name)

    async def _forget(self, entry: WorkerSetState) -> None:
        """Unregister at once: TorchServe would restart a worker that fails to load for five minutes."""
        load = entry.load
        pids = list(load.workers)
        load.workers.clear()
        load.starting.clear()
        load.replacing = False
        if load.archive and load.registered:
            load.registered = False
            await self._loader.unregister(load.archive, pids)
        load.dead.update(pids)
        self._admission.release(entry)
        self.settle()


def _change(entry: WorkerSetState, event: Event) -> None:
    entry.load.state = states.state_after(entry.load.state, event)


def _enter(entry: WorkerSetState, phase: Phase | None, progress: float | None = None) -> None:
    """Set the phase of the load and its progress, a fraction."""
    entry.load.phase, entry.load.progress = phase, progress
    if entry.load.record and phase:
        entry.load.record.enter(phase)
