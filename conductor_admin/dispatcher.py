"""Runs one generation from its planned request to its last record: waits for a worker, relays, counts.

The only user of leases. Knows records, not protocols; `conductor_admin.api.rendering` formats them.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing

import structlog

from conductor_admin.auth.rate_limits import Meter, Quotas
from conductor_admin.lifecycle.leases import Lease, LeaseRequest, WorkerAffinity
from conductor_admin.lifecycle.lifecycle import Lifecycle
from conductor_admin.planner import PlannedRequest
from conductor_admin.sessions.service import Records, Sessions
from conductor_admin.telemetry.recorder import Telemetry
from conductor_admin.telemetry.stats import Stats
from conductor_admin.telemetry.trace import Trace
from conductor_admin.workers.client import Patience, WorkerUnreachable, worker_died
from handlers.wire import Done, RequestError

log = structlog.get_logger()

_ATTEMPTS = 3  # workers tried while none has taken the request


class Dispatcher:
    """Runs planned requests on the worker sets of `lifecycle`."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        stats: Stats,
        patience: Patience,
        sessions: Sessions,
        quotas: Quotas | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.lifecycle = lifecycle
        self.sessions = sessions
        self.quotas = quotas or Quotas()
        self.telemetry = telemetry or Telemetry()
        self._stats = stats
        self._patience = patience

    def run(self, planned: PlannedRequest, *, sends: bool = True) -> Records:
        """Yield blocks of whole NDJSON lines, then the last record. Closing it cancels the generation.

        Raises RequestError if the generation fails. A session stores the part of a turn that its client got;
        `sends` means that the client gets the records as they come.
        """
        return self._records(planned, sends=sends)

    def _records(self, planned: PlannedRequest, *, sends: bool) -> Records:
        if planned.session is None:
            return self._run(planned, WorkerAffinity())
        return self.sessions.run(planned, self._run, sends=sends)

    async def _run(self, planned: PlannedRequest, affinity: WorkerAffinity) -> Records:
        with self.telemetry.follow(planned) as trace:
            try:
                with self.quotas.admitted(planned.caller) as meter:
                    async with aclosing(self._relay(trace, affinity)) as records:
                        async for record in records:
                            self._count(trace, meter, record)
                            yield record
            except RequestError as error:
                if error.status >= 500:
                    self._stats.failed(planned.row.slug)
                raise

    async def result(self, planned: PlannedRequest) -> Done:
        """Run the planned request and return only its last record. Raises RequestError."""
        async with aclosing(self._records(planned, sends=False)) as records:
            async for record in records:
                if isinstance(record, Done):
                    return record
        raise worker_died()

    async def _relay(self, trace: Trace, affinity: WorkerAffinity) -> Records:
        planned = trace.job
        for _ in range(_ATTEMPTS):
            try:
                async with AsyncExitStack() as stack:
                    with self._stats.queued(planned.row.slug):
                        request = _lease_request(trace, affinity)
                        lease = await stack.enter_async_context(self.lifecycle.lease(request))
                    _check_version(planned, lease)
                    trace.has_worker(lease.pid)
                    affinity.pid = lease.pid
                    records = await stack.enter_async_context(
                        aclosing(lease.client.generate(planned.request, self._patience))
                    )
                    async for record in records:
                        yield _signed(record, lease)
                    return
            except WorkerUnreachable:
                trace.is_queued_again()
                log.warning("worker_unreachable", set=planned.set_name)
        raise worker_died()

    def _count(self, trace: Trace, meter: Meter, record: bytes | Done) -> None:
        if isinstance(record, Done):
            trace.is_done(record)
            meter.ended(record.usage.total_tokens)
            self._stats.succeeded(trace.job.row.slug, record.usage, trace.seconds, trace.first_token_s)
        else:
            trace.relayed(record)
            meter.relayed(record)


def _lease_request(trace: Trace, affinity: WorkerAffinity) -> LeaseRequest:
    planned, caller = trace.job, trace.job.caller
    may = (caller.may_load, caller.may_evict)
    return LeaseRequest(
        planned.row.slug,
        planned.max_wait_s,
        planned.keep_alive_s,
        *may,
        prefers=affinity.pid,
        client=caller.client,
        is_admin="admin" in caller.scopes,
        may_shorten=caller.may_evict and not caller.is_restricted,
        wait=trace.wait,
    )


def _signed(record: bytes | Done, lease: Lease) -> bytes | Done:
    # While the model of an edited row loads, the old one answers: the name in the table would be wrong.
    return record.model_copy(update={"model": lease.model}) if isinstance(record, Done) else record


def _check_version(planned: PlannedRequest, lease: Lease) -> None:
    if planned.version is not None and planned.version != lease.version:
        raise RequestError(
            f"{planned.row.slug} is served by version {lease.version}, not {planned.version[:64]!r}",
            status=404,
            code="model_version_not_found",
            param="version",
        )
