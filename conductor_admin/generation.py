"""One generation from job to last record: waits for a worker, relays its records, counts what happened.

The only user of leases. Knows records, not how a protocol shows them: that is `conductor_admin.answers`.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, aclosing

import structlog

from conductor_admin.leases import Lease, Place, Wish
from conductor_admin.lifecycle import Lifecycle
from conductor_admin.quotas import Meter, Quotas
from conductor_admin.router import Job
from conductor_admin.sessions import Records, Sessions
from conductor_admin.stats import Stats
from conductor_admin.worker_client import Patience, WorkerUnreachable, worker_died
from handlers.wire import Done, RequestError

log = structlog.get_logger()

_ATTEMPTS = 3  # workers tried while none has taken the request


class Generations:
    """Runs jobs on the worker sets of `lifecycle`."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        stats: Stats,
        patience: Patience,
        sessions: Sessions,
        quotas: Quotas | None = None,
    ) -> None:
        self.lifecycle = lifecycle
        self.sessions = sessions
        self.quotas = quotas or Quotas()
        self._stats = stats
        self._patience = patience

    def run(self, job: Job, *, sends: bool = True) -> Records:
        """Blocks of whole NDJSON lines, then the last record. Closing it cancels the generation.

        Raises RequestError where the generation fails. What the client sees of a session's turn is kept, and
        `sends` says that it sees the records as they come.
        """
        return self._records(job, sends=sends)

    def _records(self, job: Job, *, sends: bool) -> Records:
        if job.session is None:
            return self._run(job, Place())
        return self.sessions.run(job, self._run, sends=sends)

    async def _run(self, job: Job, place: Place) -> Records:
        start = time.monotonic()
        first: float | None = None
        try:
            with self.quotas.admitted(job.caller) as meter:
                async with aclosing(self._relay(job, place)) as records:
                    async for record in records:
                        _count(meter, record)
                        if isinstance(record, Done):
                            self._ended(job, record, start, first)
                        elif first is None:
                            first = time.monotonic()
                        yield record
        except RequestError as error:
            if error.status >= 500:
                self._stats.failed(job.row.slug)
            log.info("generation_failed", category=job.row.slug, code=error.code, status=error.status)
            raise

    async def result(self, job: Job) -> Done:
        """The last record alone."""
        async with aclosing(self._records(job, sends=False)) as records:
            async for record in records:
                if isinstance(record, Done):
                    return record
        raise worker_died()

    async def _relay(self, job: Job, place: Place) -> Records:
        for _ in range(_ATTEMPTS):
            try:
                async with AsyncExitStack() as stack:
                    with self._stats.queued(job.row.slug):
                        wish = _wish(job, place)
                        lease = await stack.enter_async_context(self.lifecycle.lease(wish))
                    _check_version(job, lease)
                    place.pid = lease.pid
                    records = await stack.enter_async_context(
                        aclosing(lease.client.generate(job.request, self._patience))
                    )
                    async for record in records:
                        yield record
                    return
            except WorkerUnreachable:
                log.warning("worker_unreachable", set=job.set_name)
        raise worker_died()

    def _ended(self, job: Job, done: Done, start: float, first: float | None) -> None:
        now = time.monotonic()
        self._stats.succeeded(job.row.slug, done.usage, now - start, first and first - start)
        log.info(
            "generation",
            category=job.row.slug,
            prompt_tokens=done.usage.prompt_tokens,
            completion_tokens=done.usage.completion_tokens,
            finish_reason=done.finish_reason,
            seconds=round(now - start, 4),
        )


def _wish(job: Job, place: Place) -> Wish:
    caller = job.caller
    may = (caller.may_load, caller.may_evict)
    return Wish(job.row.slug, job.max_wait_s, job.keep_alive_s, *may, prefers=place.pid)


def _count(meter: Meter, record: bytes | Done) -> None:
    if isinstance(record, Done):
        meter.ended(record.usage.total_tokens)
    else:
        meter.relayed(record)


def _check_version(job: Job, lease: Lease) -> None:
    if job.version is not None and job.version != lease.version:
        raise RequestError(
            f"{job.row.slug} is served by version {lease.version}, not {job.version[:64]!r}",
            status=404,
            code="model_version_not_found",
            param="version",
        )
