"""Leases: a request asks for a worker, waits for it, and holds it while it answers.

Limits the number of requests, lets them wait for a load, and counts those in flight. A lease is the only way
to a worker. Other modules decide about restarts and unloads. A request without a worker waits for its set's
load job, which belongs to no request and outlives it. A request without permission to load or to evict may
wait for a load that others began, and never delays it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from conductor_admin.lifecycle import errors
from conductor_admin.lifecycle.admission import Rooms
from conductor_admin.lifecycle.client_shares import Shares
from conductor_admin.lifecycle.load_record import Wait
from conductor_admin.lifecycle.loads import SetJobs
from conductor_admin.lifecycle.reconciler import Upkeep
from conductor_admin.lifecycle.states import State
from conductor_admin.lifecycle.worker_sets import SetEntry, SetTable
from conductor_admin.memory.policy import Bytes
from conductor_admin.workers.client import WorkerClient, WorkerUnreachable, worker_unresponsive
from conductor_admin.workers.liveness import Condition
from conductor_admin.workers.worker import Worker, best_worker
from conductor_core.processes import is_alive
from handlers.wire import RequestError

_TIMEOUTS = frozenset({"worker_unresponsive", "first_token_timeout", "token_timeout"})
_HUNG = "the worker did not answer any more"


@dataclass(slots=True)
class Place:
    """Pid of the worker that answered last, whose cache holds the conversation; None if unknown."""

    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """Request for a lease: the row, the longest wait, and the time for which the set is kept; in seconds.

    None takes the defaults of the gateway and of the set; a negative `keep_alive_s` keeps the set for ever.
    `may_load` and `may_evict` permit a load, and the eviction of other sets for it. `prefers` is the pid of
    the preferred worker; `wait` records what the request waits for. `client` is the client whose share of the
    places is used; `may_shorten` allows a `keep_alive_s` that is shorter than the set's own idle time.
    """

    slug: str
    max_wait_s: float | None = None
    keep_alive_s: float | None = None
    may_load: bool = True
    may_evict: bool = True
    prefers: int | None = None
    client: str = ""
    is_admin: bool = False
    may_shorten: bool = True
    wait: Wait = field(default_factory=Wait)


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker that will not be unloaded while the lease lasts; `model` is the technical name it serves."""

    client: WorkerClient
    version: str
    pid: int
    model: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits in seconds, requests and bytes by device; `load_s` maps a set's memory to a deadline."""

    max_wait_s: float
    queue_size: int
    load_s: Callable[[int | None], float]
    budget: Bytes


def load_for(jobs: SetJobs, rooms: Rooms, entry: SetEntry, wish: Wish) -> asyncio.Task[None]:
    """Begin or join the job that the request waits for. RequestError 503 if it may not begin one."""
    if entry.state in (State.UNAVAILABLE, State.FAILED):
        _refuse(rooms, entry, wish)
        return jobs.begin_load(entry, may_evict=wish.may_evict)
    if wish.may_evict and not entry.may_evict:
        entry.may_evict = True
        rooms.settle()
    return jobs.begin_load(entry)


def _refuse(rooms: Rooms, entry: SetEntry, wish: Wish) -> None:
    if not wish.may_load:
        raise _not_allowed(f"{wish.slug} is not loaded, and this key may not load it", "load_not_allowed")
    if not wish.may_evict and not rooms.has_room_for(entry):
        message = f"{wish.slug} fits only in the place of another model, and this key may not unload one"
        raise _not_allowed(message, "eviction_not_allowed")


def _not_allowed(message: str, code: str) -> RequestError:
    return RequestError(
        message, status=503, type="permission_error", code=code, retry_after_s=errors.LOADING_RETRY_S
    )


class Lessor:
    """Gives leases on the workers of `table`'s sets."""

    def __init__(
        self,
        table: SetTable,
        jobs: SetJobs,
        rooms: Rooms,
        upkeep: Upkeep,
        limits: Limits,
        *,
        serves_models: bool,
    ) -> None:
        self._table = table
        self._jobs = jobs
        self._rooms = rooms
        self._upkeep = upkeep
        self._limits = limits
        self._serves_models = serves_models
        self._shares = Shares(limits.queue_size)

    @contextlib.asynccontextmanager
    async def lease(self, wish: Wish) -> AsyncIterator[Lease]:
        """Lease a worker of the set that serves the row of `wish`, and load the set if needed.

        Raises RequestError. The request counts from here to the end of the block.
        """
        with self._shares.place(wish.client, is_admin=wish.is_admin):
            entry, worker = await self._acquire(wish)
            was_silent = worker.liveness.missed > 0
            try:
                version = entry.archive.version if entry.archive else ""
                model = entry.worker_set.row(wish.slug).technical_model_name
                yield Lease(worker.client, version, worker.pid, model)
                self._upkeep.answered(entry, worker)
            except WorkerUnreachable as error:
                self._jobs.lost(entry, worker)
                if worker.condition is Condition.HUNG and not was_silent:
                    # This request may be the cause of the hang: a retry would hang the next worker.
                    raise worker_unresponsive(_HUNG) from error
                raise
            except RequestError as error:
                raise self._explained(entry, worker, wish.slug, error) from error
            finally:
                self._release(entry, worker, wish)

    async def load(self, slug: str) -> None:
        """Load the row's set and wait until it is READY. Raises RequestError."""
        wish = Wish(slug)
        entry, worker = await self._acquire(wish)
        self._release(entry, worker, wish)

    async def _acquire(self, wish: Wish) -> tuple[SetEntry, Worker]:
        longest = self._limits.max_wait_s
        wait_s = longest if wish.max_wait_s is None else min(wish.max_wait_s, longest)
        deadline = time.monotonic() + wait_s
        while entry := self._table.serving(wish.slug):
            self._rooms.asked(entry)
            wish.wait.ahead = entry.waiting
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
        raise errors.row_removed(wish.slug)

    async def _worker(self, entry: SetEntry, wish: Wish, wait_s: float, deadline: float) -> Worker | None:
        """A worker of the set; None if the set was retired and another one serves its rows."""
        while True:
            self._refuse_while_ending()
            if entry.retired:
                return None
            worker = best_worker(entry.ready_workers, wish.prefers)
            if worker:
                return worker
            self._refuse_while_cooling(entry, wish.slug)
            job = load_for(self._jobs, self._rooms, entry, wish)
            was_loading = entry.state is State.LOADING
            if was_loading:
                wish.wait.joins(entry.story)
            done, _ = await asyncio.wait({job}, timeout=max(0.0, deadline - time.monotonic()))
            if not done:
                raise errors.still_loading(wish.slug, wait_s, entry.eta_s(time.monotonic()))
            if was_loading and not entry.wanted and not entry.retired:
                raise errors.unloaded(wish.slug)

    def _release(self, entry: SetEntry, worker: Worker, wish: Wish) -> None:
        worker.in_flight -= 1
        entry.last_used = time.time()
        entry.expires = entry.idleness.expires(
            time.monotonic(), wish.keep_alive_s, may_shorten=wish.may_shorten
        )
        self._upkeep.sample(entry)
        if entry.in_flight == 0:
            entry.drained.set()
            self._upkeep.end_if_idle(entry)
            self._rooms.settle()

    def _refuse_while_ending(self) -> None:
        if not self._serves_models:
            raise errors.loading_skipped()
        if self._jobs.closing:
            raise errors.shutting_down()

    @staticmethod
    def _refuse_while_cooling(entry: SetEntry, slug: str) -> None:
        now = time.monotonic()
        if entry.state is State.FAILED and entry.failure and now < entry.failure.until:
            raise errors.load_failed(slug, entry.failure, now)

    def _explained(self, entry: SetEntry, worker: Worker, slug: str, error: RequestError) -> RequestError:
        if error.code in _TIMEOUTS:
            self._upkeep.timed_out(entry, worker)
        if error.code != "worker_died":
            return error
        if not is_alive(worker.pid):
            self._jobs.lost(entry, worker)
        if entry.ended_by:
            return entry.ended_by(slug)
        return worker_unresponsive(_HUNG) if worker.condition is Condition.HUNG else error
