"""The one owner of every worker set's state: loads, restarts, unloads, and leases, the only way to a worker.

Decisions are the pure functions of `conductor_admin.states`, effects those of `conductor_admin.loading`. A
load is a job that requests join and leave; it belongs to none of them. Everything runs on one event loop:
between two awaits nothing changes, so there is no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass

import structlog

from conductor_admin import states
from conductor_admin.loading import Loader
from conductor_admin.processes import is_alive
from conductor_admin.set_entry import SetEntry, SetView, Worker
from conductor_admin.set_jobs import SetJobs
from conductor_admin.states import State
from conductor_admin.worker_client import WorkerClient, WorkerUnreachable
from conductor_core.catalogue import StayLoaded, WorkerSet
from handlers.wire import RequestError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in seconds and requests; `load_s` maps a set's memory in bytes to its load's deadline."""

    max_wait_s: float
    queue_size: int
    load_s: Callable[[int | None], float]


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker that will not be unloaded while the lease lasts."""

    client: WorkerClient
    version: str


class Lifecycle:
    """States of all worker sets; `start` before use, `close` at the end."""

    def __init__(
        self, sets: Iterable[WorkerSet], loader: Loader, limits: Limits, *, serves_models: bool = True
    ) -> None:
        self.serves_models = serves_models
        self._entries = {worker_set.name: SetEntry(worker_set) for worker_set in sets}
        self._jobs = SetJobs(loader, limits.load_s)
        self._limits = limits
        self._reserved = 0
        self._closing = False

    @property
    def torchserve_up(self) -> bool:
        return self._jobs.torchserve_up.is_set()

    def view(self, name: str) -> SetView:
        """The set `name` at this moment."""
        return self._entries[name].view()

    def views(self) -> list[SetView]:
        return [entry.view() for entry in self._entries.values()]

    @contextlib.asynccontextmanager
    async def lease(self, name: str, slug: str, max_wait_s: float | None = None) -> AsyncIterator[Lease]:
        """A worker of the set `name` for the row `slug`, loaded if need be.

        Raises RequestError: `server_overloaded`, `model_loading` after the wait, `model_load_failed`. The
        request counts from here to the end of the block.
        """
        entry = self._entries[name]
        with self._reservation():
            worker = await self._acquire(entry, slug, max_wait_s)
            try:
                yield Lease(worker.client, entry.archive.version if entry.archive else "")
            except WorkerUnreachable:
                self._lost(entry, worker)
                raise
            except RequestError as error:
                raise self._explained(entry, worker, error) from error
            finally:
                worker.in_flight -= 1
                entry.last_used = time.time()
                if entry.in_flight == 0:
                    entry.drained.set()

    async def load(self, name: str, slug: str) -> None:
        """Load the set on an operator's word: a cool-down is cleared. Raises what a waiter gets."""
        entry = self._entries[name]
        if not self._closing and entry.state is State.FAILED:
            entry.failure = None
            entry.state = State.UNAVAILABLE
        worker = await self._acquire(entry, slug, None)
        worker.in_flight -= 1

    async def unload(self, name: str, slug: str, *, force: bool, drain: bool) -> None:
        """Drop the row's claim and end the set's workers; 409 while other rows hold it and not `force`."""
        entry = self._entries[name]
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
        if entry.job and not entry.job.done():
            entry.job.cancel()
            await asyncio.wait({entry.job})
        if entry.state is State.FAILED:
            entry.state, entry.failure = State.UNAVAILABLE, None
        if entry.archive and entry.registered:
            job = self._jobs.begin_unload(entry, entry.archive, drain=drain)
            await asyncio.wait({job})

    def start(self) -> None:
        """Begin to load the resident sets."""
        for entry in self._entries.values():
            if entry.is_resident:
                entry.claims |= {
                    r.slug for r in entry.worker_set.rows if r.stay_loaded is not StayLoaded.FALSE
                }
                self._jobs.begin_load(entry)

    async def torchserve_started(self) -> None:
        self._jobs.torchserve_up.set()

    async def torchserve_ended(self) -> None:
        """Its workers are gone with it: what was READY is loaded again once TorchServe is back."""
        self._jobs.torchserve_up.clear()
        for entry in self._entries.values():
            entry.registered = False
            for worker in list(entry.workers.values()):
                self._lost(entry, worker)

    async def reconcile(self) -> None:
        """Bring what is observed and what is wanted together; called every second."""
        for entry in self._entries.values():
            for worker in list(entry.workers.values()):
                if not is_alive(worker.pid):
                    self._lost(entry, worker)
            if entry.state is State.READY and len(entry.workers) < entry.worker_set.workers:
                await self._jobs.adopt_more(entry)
            if entry.is_resident and entry.wanted and self._may_retry(entry):
                self._jobs.begin_load(entry)

    async def refresh(self) -> None:
        """Ask every worker for its health; one that takes no connection is lost."""
        for entry in self._entries.values():
            for worker in list(entry.workers.values()):
                try:
                    worker.health = await worker.client.health()
                except WorkerUnreachable:
                    if not is_alive(worker.pid):
                        self._lost(entry, worker)

    def refuse(self) -> None:
        """Refuse new leases from now on; streams that end early are told why."""
        self._closing = True
        for entry in self._entries.values():
            entry.ended_by = states.shutting_down

    async def close(self) -> None:
        """End the jobs and the connections to workers; streams have ended with TorchServe's workers."""
        self.refuse()
        jobs = []
        for entry in self._entries.values():
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

    async def _acquire(self, entry: SetEntry, slug: str, max_wait_s: float | None) -> Worker:
        wait_s = self._limits.max_wait_s if max_wait_s is None else min(max_wait_s, self._limits.max_wait_s)
        deadline = time.monotonic() + wait_s
        while True:
            self._refuse_while_ending()
            worker = states.least_busy(entry.workers.values()) if entry.state is State.READY else None
            if worker:
                entry.claims.add(slug)
                worker.in_flight += 1
                entry.drained.clear()
                return worker
            self._refuse_while_cooling(entry)
            job = self._jobs.begin_load(entry)
            was_loading = entry.state is State.LOADING
            done, _ = await asyncio.wait({job}, timeout=max(0.0, deadline - time.monotonic()))
            if not done:
                raise states.still_loading(entry.name, wait_s)
            if was_loading and not entry.wanted:
                raise states.unloaded(entry.name)

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
            self._lost(entry, worker)
        return entry.ended_by() if entry.ended_by else error

    def _lost(self, entry: SetEntry, worker: Worker) -> None:
        """A worker is gone: another one serves, or the set is LOADING until TorchServe has restarted it."""
        if entry.workers.pop(worker.pid, None) is None:
            return
        entry.dead.add(worker.pid)
        log.warning("worker_lost", set=entry.name, pid=worker.pid, left=len(entry.workers))
        if not entry.workers and entry.state is State.READY and not self._closing:
            self._jobs.begin_load(entry, "restart")

    @staticmethod
    def _may_retry(entry: SetEntry) -> bool:
        cooled = entry.failure is None or time.monotonic() >= entry.failure.until
        return entry.state is State.FAILED and cooled
