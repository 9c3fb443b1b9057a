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
from conductor_admin.lifecycle.admission import MemoryAdmission
from conductor_admin.lifecycle.client_shares import Shares
from conductor_admin.lifecycle.load_record import QueueWait
from conductor_admin.lifecycle.loads import LoadJobs
from conductor_admin.lifecycle.reconciler import Reconciler
from conductor_admin.lifecycle.set_state import WorkerSetState
from conductor_admin.lifecycle.states import State
from conductor_admin.lifecycle.worker_sets import WorkerSetTable
from conductor_admin.memory.policy import DeviceBytes
from conductor_admin.workers.client import WorkerClient, WorkerUnreachable, worker_unresponsive
from conductor_admin.workers.liveness import Condition
from conductor_admin.workers.worker import Worker, best_worker
from conductor_core.processes import is_alive
from handlers.wire import RequestError

_TIMEOUTS = frozenset({"worker_unresponsive", "first_token_timeout", "token_timeout"})
_HUNG = "the worker stopped answering"


@dataclass(slots=True)
class WorkerAffinity:
    """Pid of the worker that answered last, whose cache holds the conversation; None if unknown."""

    pid: int | None = None


@dataclass(frozen=True, slots=True)
class LeaseRequest:
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
    wait: QueueWait = field(default_factory=QueueWait)


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker that will not be unloaded while the lease lasts; `model` is the technical name it serves."""

    client: WorkerClient
    version: str
    pid: int
    model: str


@dataclass(frozen=True, slots=True)
class LeaseLimits:
    """Limits in seconds, requests and bytes by device; `load_s` maps a set's memory to a deadline."""

    max_wait_s: float
    queue_size: int
    load_s: Callable[[int | None], float]
    budget: DeviceBytes


def load_for(
    jobs: LoadJobs, admission: MemoryAdmission, entry: WorkerSetState, request: LeaseRequest
) -> asyncio.Task[None]:
    """Begin or join the job that the request waits for. RequestError 503 if it may not begin one."""
    if entry.load.state in (State.UNAVAILABLE, State.FAILED):
        slug = request.slug
        if not request.may_load:
            raise _not_allowed(f"{slug} is not loaded, and this key may not load it", "load_not_allowed")
        if not request.may_evict and not admission.has_room_for(entry):
            message = f"{slug} fits only if another model is unloaded, and this key may not unload models"
            raise _not_allowed(message, "eviction_not_allowed")
        return jobs.begin_load(entry, may_evict=request.may_evict)
    if request.may_evict and not entry.load.may_evict:
        jobs.allow_eviction(entry)
    return jobs.begin_load(entry)


def _not_allowed(message: str, code: str) -> RequestError:
    return RequestError(
        message, status=503, type="permission_error", code=code, retry_after_s=errors.LOADING_RETRY_S
    )


class LeaseManager:
    """Gives leases on the workers of `table`'s sets."""

    def __init__(
        self,
        table: WorkerSetTable,
        jobs: LoadJobs,
        admission: MemoryAdmission,
        reconciler: Reconciler,
        limits: LeaseLimits,
        *,
        serves_models: bool,
    ) -> None:
        self._table = table
        self._jobs = jobs
        self._admission = admission
        self._reconciler = reconciler
        self._limits = limits
        self._serves_models = serves_models
        self._shares = Shares(limits.queue_size)

    @contextlib.asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Lease]:
        """Lease a worker of the set that serves the row of `request`, and load the set if needed.

        Raises RequestError. The request counts from here to the end of the block.
        """
        with self._shares.place(request.client, is_admin=request.is_admin):
            entry, worker = await self._acquire(request)
            was_silent = worker.liveness.missed > 0
            try:
                version = entry.load.archive.version if entry.load.archive else ""
                model = entry.worker_set.row(request.slug).technical_model_name
                yield Lease(worker.client, version, worker.pid, model)
                self._reconciler.answered(entry, worker)
            except WorkerUnreachable as error:
                self._jobs.lost(entry, worker)
                if worker.condition is Condition.HUNG and not was_silent:
                    # This request may be the cause of the hang: a retry would hang the next worker.
                    raise worker_unresponsive(_HUNG) from error
                raise
            except RequestError as error:
                raise self._explained(entry, worker, request.slug, error) from error
            finally:
                self._release(entry, worker, request)

    async def load(self, slug: str) -> None:
        """Load the row's set and wait until it is READY. Raises RequestError."""
        request = LeaseRequest(slug)
        entry, worker = await self._acquire(request)
        self._release(entry, worker, request)

    async def _acquire(self, request: LeaseRequest) -> tuple[WorkerSetState, Worker]:
        longest = self._limits.max_wait_s
        wait_s = longest if request.max_wait_s is None else min(request.max_wait_s, longest)
        deadline = time.monotonic() + wait_s
        while entry := self._table.serving(request.slug):
            entry.use.count_request(time.monotonic())
            self._admission.count_request(entry)
            request.wait.ahead = entry.use.waiting
            entry.use.begin_wait()
            try:
                worker = await self._worker(entry, request, wait_s, deadline)
            finally:
                entry.use.end_wait()
            if worker:
                worker.in_flight += 1
                entry.use.begin_answer(request.slug)
                return entry, worker
        raise errors.row_removed(request.slug)

    async def _worker(
        self, entry: WorkerSetState, request: LeaseRequest, wait_s: float, deadline: float
    ) -> Worker | None:
        """A worker of the set; None if the set was retired and another one serves its rows."""
        while True:
            if not self._serves_models:
                raise errors.loading_skipped()
            if self._jobs.closing:
                raise errors.shutting_down()
            if entry.draining:
                return None
            worker = best_worker(entry.load.ready_workers, request.prefers)
            if worker:
                return worker
            self._refuse_while_cooling(entry, request.slug)
            job = load_for(self._jobs, self._admission, entry, request)
            was_loading = entry.load.state is State.LOADING
            if was_loading:
                request.wait.joins(entry.load.record)
            done, _ = await asyncio.wait({job}, timeout=max(0.0, deadline - time.monotonic()))
            if not done:
                raise errors.still_loading(request.slug, wait_s, entry.eta_s(time.monotonic()))
            if was_loading and not entry.load.wanted and not entry.draining:
                raise errors.unloaded(request.slug)

    def _release(self, entry: WorkerSetState, worker: Worker, request: LeaseRequest) -> None:
        worker.in_flight -= 1
        is_last = entry.load.in_flight == 0
        entry.use.end_answer(is_last=is_last)
        entry.use.begin_idle_time(entry.idleness, request.keep_alive_s, may_shorten=request.may_shorten)
        self._reconciler.sample(entry)
        if is_last:
            self._reconciler.end_if_idle(entry)
            self._jobs.settle()

    @staticmethod
    def _refuse_while_cooling(entry: WorkerSetState, slug: str) -> None:
        now = time.monotonic()
        failure = entry.load.failure
        if entry.load.state is State.FAILED and failure and now < failure.until:
            raise errors.load_failed(slug, failure, now)

    def _explained(
        self, entry: WorkerSetState, worker: Worker, slug: str, error: RequestError
    ) -> RequestError:
        if error.code in _TIMEOUTS:
            self._reconciler.timed_out(entry, worker)
        if error.code != "worker_died":
            return error
        if not is_alive(worker.pid):
            self._jobs.lost(entry, worker)
        if entry.load.ended_by:
            return entry.load.ended_by(slug)
        return worker_unresponsive(_HUNG) if worker.condition is Condition.HUNG else error
