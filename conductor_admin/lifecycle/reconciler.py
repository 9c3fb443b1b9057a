"""Periodic work: lost and hung workers, failed residents, idle sets, grown memory, `yield` sets.

Called every second by `conductor_admin.lifecycle.heartbeat.Heartbeat`; decides nothing about requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import structlog

from conductor_admin.lifecycle.admission import MemoryAdmission
from conductor_admin.lifecycle.loads import LoadJobs
from conductor_admin.lifecycle.set_state import WorkerSetState
from conductor_admin.lifecycle.states import State, has_cooled
from conductor_admin.lifecycle.worker_sets import WorkerSetTable
from conductor_admin.memory.machine import MemoryOf
from conductor_admin.workers import liveness
from conductor_admin.workers.liveness import Condition
from conductor_admin.workers.worker import Worker
from conductor_core.catalogue import StayLoaded
from conductor_core.processes import activity, is_alive

log = structlog.get_logger()

SAMPLE_S = 1.0
"""Seconds between two measurements of a set that answers; each costs its worker a walk over its pages."""


class Reconciler:
    """Reconciles observed and wanted states of the sets of `table`."""

    def __init__(
        self, table: WorkerSetTable, jobs: LoadJobs, admission: MemoryAdmission, machine: MemoryOf
    ) -> None:
        self._table = table
        self._jobs = jobs
        self._admission = admission
        self._machine = machine
        self._samples: set[asyncio.Task[None]] = set()
        self._busy: set[str] = set()

    async def reconcile(self) -> None:
        """Check every set once."""
        for entry in list(self._table.entries.values()):
            for worker in list(entry.load.workers.values()):
                if not is_alive(worker.pid):
                    self._jobs.lost(entry, worker)
            is_short = entry.load.state is State.READY and len(entry.load.workers) < entry.worker_set.workers
            if is_short and self._jobs.torchserve_up.is_set():
                self._begin(f"{entry.key} adoption", self._jobs.adopt_more(entry))
            self.end_if_idle(entry)
            self._restore(entry)
        self._table.forget_gone()
        self._jobs.relieve()
        self._jobs.settle()

    async def refresh(self) -> None:
        """Ask the machine for its memory and every worker for its health; one that hangs is lost."""
        await self._machine.look()
        # All at once: a hung worker must not delay the checks of others.
        await asyncio.gather(*(self._look_at(entry) for entry in self._table.entries.values()))

    def answered(self, entry: WorkerSetState, worker: Worker) -> None:
        """Measure the set again, at most every SAMPLE_S: it holds most when an answer has just ended."""
        worker.liveness = liveness.finished(worker.liveness)
        self.sample(entry)

    def sample(self, entry: WorkerSetState) -> None:
        """Measure a set of which a request has ended, at most every SAMPLE_S."""
        now = time.monotonic()
        if entry.load.state is State.READY and now - entry.memory.sampled_at >= SAMPLE_S:
            self._admission.begin_sample(entry, now)
            self._begin(f"{entry.key} sample", self._sample(entry))

    def timed_out(self, entry: WorkerSetState, worker: Worker) -> None:
        """Check now if the worker hangs, because a request on it has timed out."""
        worker.liveness = liveness.timed_out(worker.liveness)
        self._begin(f"{entry.key} look", self._look_at(entry))

    async def close(self) -> None:
        """Cancel all running tasks."""
        samples = set(self._samples)
        for task in samples:
            task.cancel()
        if samples:
            await asyncio.wait(samples)

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in a task, so that no worker delays the beat; at most one task per `name`."""
        if name in self._busy:
            work.close()
            return
        self._busy.add(name)
        task = asyncio.create_task(work, name=name)
        self._samples.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._samples.discard(task)
        self._busy.discard(task.get_name())
        if not task.cancelled() and (error := task.exception()):
            log.error("upkeep_failed", task=task.get_name(), exc_info=error)

    async def _sample(self, entry: WorkerSetState) -> None:
        for worker in await self._admission.sample(entry, in_use=True):
            if not is_alive(worker.pid):
                self._jobs.lost(entry, worker)

    async def _look_at(self, entry: WorkerSetState) -> None:
        """Ask the set's workers for their health, and update each worker's liveness once."""
        workers = list(entry.load.workers.values())
        silent = await self._admission.sample(entry)
        for worker in workers:
            doing = await asyncio.to_thread(activity, worker.pid)
            before, health = worker.liveness, worker.health
            if worker in silent:
                worker.liveness = liveness.missed(before, doing)
            else:
                running = health.running + health.waiting
                worker.liveness = liveness.answered(
                    before, doing, running=running, in_flight=worker.in_flight
                )
            self._judge(entry, worker, before.condition)

    def _judge(self, entry: WorkerSetState, worker: Worker, before: Condition) -> None:
        now = worker.condition
        if now is not before:
            seen = worker.liveness
            log.warning(
                "worker_condition",
                set=entry.name,
                pid=worker.pid,
                condition=now,
                missed=seen.missed,
                stopped=seen.stopped,
                idle=seen.idle,
                timed_out=seen.timed_out,
            )
        if now is Condition.HUNG or not is_alive(worker.pid):
            self._jobs.lost(entry, worker)

    def end_if_idle(self, entry: WorkerSetState) -> None:
        """Unload the set if its idle time is over, or if it was loaded although it serves no row any more."""
        if entry.load.state is not State.READY or entry.is_busy:
            return
        if entry.draining or time.monotonic() >= entry.use.expires:
            self._admission.swaps.ended(entry.key)
            self._jobs.evict(entry)

    def _restore(self, entry: WorkerSetState) -> None:
        """Load sets that should stay loaded: residents after a failure, `yield` sets once there is room."""
        if not entry.load.wanted or entry.worker_set.stay_loaded is StayLoaded.FALSE:
            return
        has_failed = entry.load.state is State.FAILED and has_cooled(entry.load.failure, time.monotonic())
        is_away = entry.load.state is State.UNAVAILABLE and entry.worker_set.stay_loaded is StayLoaded.YIELD
        may_return = is_away and self._jobs.torchserve_up.is_set() and self._admission.has_room_for(entry)
        if has_failed or may_return:
            self._jobs.begin_load(entry)
