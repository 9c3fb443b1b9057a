"""The one owner of every worker set's state: loads, restarts, unloads, and leases, the only way to a worker.

Decisions are the pure functions of `conductor_admin.policy`, `idle` and `states`, effects those of
`conductor_admin.loading`. A load is a job that requests join and leave; it belongs to none of them.
Everything runs on one event loop: between two awaits nothing changes, so there is no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from conductor_admin import states
from conductor_admin.changes import Changes
from conductor_admin.gauges import Gauges
from conductor_admin.leases import Lease, Wish
from conductor_admin.loading import Loader
from conductor_admin.machine_memory import MemoryOf
from conductor_admin.peaks import Peaks
from conductor_admin.permits import load_for
from conductor_admin.policy import Bytes
from conductor_admin.processes import is_alive
from conductor_admin.rooms import Rooms
from conductor_admin.set_entry import SetEntry, SetView, Worker
from conductor_admin.set_jobs import SetJobs
from conductor_admin.set_table import SetTable
from conductor_admin.settings_plan import Plan
from conductor_admin.states import State
from conductor_admin.upkeep import Upkeep
from conductor_admin.worker_client import WorkerUnreachable
from conductor_core.catalogue import StayLoaded, WorkerSet
from handlers.wire import RequestError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in seconds, requests and bytes by device; `load_s` maps a set's memory to a deadline."""

    max_wait_s: float
    queue_size: int
    load_s: Callable[[int | None], float]
    budget: Bytes


class Lifecycle:
    """States of all worker sets; `start` before use, `close` at the end."""

    def __init__(
        self,
        sets: Iterable[WorkerSet],
        loader: Loader,
        limits: Limits,
        machine: MemoryOf,
        peaks: Peaks,
        *,
        serves_models: bool = True,
    ) -> None:
        self.serves_models = serves_models
        self._table = SetTable(sets)
        self.rooms = Rooms(self._table.entries, limits.budget, machine, Gauges(machine, peaks))
        self._jobs = SetJobs(loader, self.rooms, limits.load_s)
        self._upkeep = Upkeep(self._table, self._jobs, self.rooms, machine)
        self._changes = Changes(self._table, self._jobs, self.rooms)
        self._limits = limits
        self._reserved = 0
        self._closing = False

    @property
    def torchserve_up(self) -> bool:
        return self._jobs.torchserve_up.is_set()

    def view(self, name: str) -> SetView:
        """What serves the row `name` at this moment, with the failure of what was to serve it instead."""
        view, failure = self._table.named(name).view(), self._changes.failure_of(name)
        return replace(view, failure=failure) if failure and view.state is State.READY else view

    def views(self) -> list[SetView]:
        return [entry.view() for entry in self._table.present()]

    @contextlib.asynccontextmanager
    async def lease(self, name: str, wish: Wish) -> AsyncIterator[Lease]:
        """A worker of the set `name`, loaded if need be.

        Raises RequestError. The request counts from here to the end of the block.
        """
        with self._reservation():
            entry, worker = await self._acquire(name, wish)
            try:
                yield Lease(worker.client, entry.archive.version if entry.archive else "", worker.pid)
            except WorkerUnreachable:
                self._jobs.lost(entry, worker)
                raise
            except RequestError as error:
                raise self._explained(entry, worker, error) from error
            finally:
                self._release(entry, worker, wish)

    async def load(self, name: str, slug: str) -> None:
        """Load the set on an operator's word: a cool-down is cleared. Raises what a waiter gets."""
        if not self._closing:
            await self._changes.retry(slug)
        entry = self._table.named(slug)
        if not self._closing and entry.state is State.FAILED:
            entry.failure = None
            entry.state = State.UNAVAILABLE
        entry, worker = await self._acquire(name, Wish(slug))
        self._release(entry, worker, Wish(slug))

    async def unload(self, name: str, slug: str, *, force: bool, drain: bool) -> None:
        """Drop the row's claim and end the set's workers; 409 while other rows hold it and not `force`."""
        entry = self._table.named(slug)
        others = sorted(entry.claims - {slug})
        entry.claims.discard(slug)
        if others and not force:
            raise RequestError(
                f"{name} is also held by {', '.join(others)}; use force=true to end it for all",
                status=409,
                code="model_in_use",
                param="force",
            )
        entry.claims.clear()
        entry.wanted = False
        await self._jobs.end(entry, drain=drain)

    def start(self) -> None:
        """Begin to load the sets that stay loaded."""
        for entry in self._table.present():
            if entry.worker_set.stay_loaded is not StayLoaded.FALSE:
                entry.claims |= {
                    r.slug for r in entry.worker_set.rows if r.stay_loaded is not StayLoaded.FALSE
                }
                self._jobs.begin_load(entry)

    def apply(self, plan: Plan) -> None:
        """Begin to change the sets as `plan` says; what serves goes on until its successor is there."""
        self._changes.apply(plan.catalogue, loads=self.serves_models and not self._closing)

    @property
    def failed_changes(self) -> list[str]:
        """Sets that could not be loaded, while what was there before them still serves their rows."""
        return self._changes.failures

    async def torchserve_started(self) -> None:
        self._jobs.torchserve_up.set()

    async def torchserve_ended(self) -> None:
        """Its workers are gone with it: what was READY is loaded again once TorchServe is back."""
        self._jobs.torchserve_up.clear()
        for entry in self._table.entries.values():
            entry.registered = False
            for worker in list(entry.workers.values()):
                self._jobs.lost(entry, worker)

    async def reconcile(self) -> None:
        """Bring what is observed and what is wanted together; called every second."""
        self._changes.look()
        await self._upkeep.reconcile()

    async def refresh(self) -> None:
        """Ask every worker for its health, and the machine for its memory; called every few seconds."""
        await self._upkeep.refresh()

    def refuse(self) -> None:
        """Refuse new leases from now on; streams that end early are told why."""
        self._closing = self._jobs.closing = True
        for entry in self._table.entries.values():
            entry.ended_by = states.shutting_down

    async def close(self) -> None:
        """End the jobs and the connections to workers; streams have ended with TorchServe's workers."""
        self.refuse()
        await self._upkeep.close()
        jobs = []
        for entry in self._table.entries.values():
            if entry.job and not entry.job.done():
                entry.job.cancel()
                jobs.append(entry.job)
        if jobs:
            await asyncio.wait(jobs)

    @contextlib.contextmanager
    def _reservation(self) -> Iterator[None]:
        if self._reserved >= self._limits.queue_size:
            raise states.overloaded(self._limits.queue_size)
        self._reserved += 1
        try:
            yield
        finally:
            self._reserved -= 1

    async def _acquire(self, name: str, wish: Wish) -> tuple[SetEntry, Worker]:
        longest = self._limits.max_wait_s
        wait_s = longest if wish.max_wait_s is None else min(wish.max_wait_s, longest)
        deadline = time.monotonic() + wait_s
        while entry := self._table.serving(wish.slug):
            self.rooms.asked(entry)
            entry.waiting += 1
            try:
                worker = await self._worker(entry, wish, wait_s, deadline)
            finally:
                entry.waiting -= 1
            if worker:
                entry.claims.add(wish.slug)
                worker.in_flight += 1
                entry.drained.clear()
                return entry, worker
        raise states.row_removed(wish.slug)

    async def _worker(self, entry: SetEntry, wish: Wish, wait_s: float, deadline: float) -> Worker | None:
        """A worker of the set; None where the set was retired, so that another one answers for its rows."""
        while True:
            self._refuse_while_ending()
            if entry.retired:
                return None
            worker = states.best_worker(entry.ready_workers, wish.prefers)
            if worker:
                return worker
            self._refuse_while_cooling(entry)
            job = load_for(self._jobs, self.rooms, entry, wish)
            was_loading = entry.state is State.LOADING
            done, _ = await asyncio.wait({job}, timeout=max(0.0, deadline - time.monotonic()))
            if not done:
                raise states.still_loading(entry.name, wait_s, entry.eta_s(time.monotonic()))
            if was_loading and not entry.wanted and not entry.retired:
                raise states.unloaded(entry.name)

    def _release(self, entry: SetEntry, worker: Worker, wish: Wish) -> None:
        worker.in_flight -= 1
        entry.last_used = time.time()
        entry.expires = entry.idleness.expires(time.monotonic(), wish.keep_alive_s)
        self._upkeep.answered(entry)
        if entry.in_flight == 0:
            entry.drained.set()
            self._upkeep.end_if_idle(entry)
            self.rooms.settle()

    def _refuse_while_ending(self) -> None:
        if not self.serves_models:
            raise states.loading_skipped()
        if self._closing:
            raise states.shutting_down()

    @staticmethod
    def _refuse_while_cooling(entry: SetEntry) -> None:
        now = time.monotonic()
        if entry.state is State.FAILED and entry.failure and now < entry.failure.until:
            raise states.load_failed(entry.name, entry.failure, now)

    def _explained(self, entry: SetEntry, worker: Worker, error: RequestError) -> RequestError:
        if error.code != "worker_died":
            return error
        if not is_alive(worker.pid):
            self._jobs.lost(entry, worker)
        return entry.ended_by() if entry.ended_by else error
