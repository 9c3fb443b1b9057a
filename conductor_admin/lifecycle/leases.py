"""Leases: a request's wish for a worker, the wait for it, and the worker while it answers.

Bounds the number of requests, lets them wait for a load, counts them in and out. A lease is the only way to a
worker. Whether a set is loaded, restarted or unloaded is decided elsewhere; a request that finds none joins
the set's job and leaves it, and the job belongs to no request. A request that may cause less than others, no
load or no eviction, joins what they have caused, and never makes their load wait.
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
    """Which worker, by its pid, answered last, and so holds what was said; None where nobody knows."""

    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request says of its set: the row that asks, how long it waits, how long the set is kept.

    None leaves both to the gateway's and the set's own; `keep_alive_s` below 0 is for ever. `may_load` and
    `may_evict` are what the request may cause: a load, and the end of another set for that load's sake.
    `prefers` is the pid of the worker that would answer best; `wait` is told what the request waits for.
    `client` is whose share of the server the request takes; `may_shorten` that `keep_alive_s` may end the set
    sooner than the table has it.
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
    """Bounds in seconds, requests and bytes by device; `load_s` maps a set's memory to a deadline."""

    max_wait_s: float
    queue_size: int
    load_s: Callable[[int | None], float]
    budget: Bytes


def load_for(jobs: SetJobs, rooms: Rooms, entry: SetEntry, wish: Wish) -> asyncio.Task[None]:
    """The job that the request waits for, begun or joined. Raises 503 where it may not begin one."""
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
    """Leases on the workers of `table`'s sets."""

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
        """A worker of the set that serves the row of `wish`, loaded if need be.

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
                    # It may be what the worker hangs on: it would take the next one with it.
                    raise worker_unresponsive(_HUNG) from error
                raise
            except RequestError as error:
                raise self._explained(entry, worker, wish.slug, error) from error
            finally:
                self._release(entry, worker, wish)

    async def load(self, slug: str) -> None:
        """Wait until the row's set is READY, as a request does that then asks nothing of it."""
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
        """A worker of the set; None where the set was retired, so that another one answers for its rows."""
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
