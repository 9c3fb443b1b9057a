"""Runs one generation from its planned request to its last record: waits for a worker, relays, counts.

The only user of leases. Knows records, not protocols; `conductor_admin.api.rendering` formats them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

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
        if planned.session is None:
            return self._run(planned, WorkerAffinity())
        return self.sessions.run(planned, self._run, sends=sends)

    async def _run(self, planned: PlannedRequest, affinity: WorkerAffinity) -> Records:
        with self.telemetry.follow(planned) as trace:
            try:
                with self.quotas.admitted(planned.caller) as meter:
                    for _ in range(_ATTEMPTS):
                        try:
                            async with (
                                self._leased(trace, affinity) as lease,
                                aclosing(lease.client.generate(planned.request, self._patience)) as records,
                            ):
                                async for record in records:
                                    yield self._counted(trace, meter, lease, record)
                                return
                        except WorkerUnreachable:
                            trace.is_queued_again()
                            log.warning("worker_unreachable", set=planned.set_name)
                    raise worker_died()
            except RequestError as error:
                if error.status >= 500:
                    self._stats.failed(planned.row.slug)
                raise

    async def result(self, planned: PlannedRequest, hear: Callable[[bytes], None] | None = None) -> Done:
        """Run the planned request and return its last record; `hear` gets the blocks before it.

        Raises RequestError.
        """
        async with aclosing(self.run(planned, sends=False)) as records:
            async for record in records:
                if isinstance(record, Done):
                    return record
                if hear is not None:
                    hear(record)
        raise worker_died()

    @asynccontextmanager
    async def _leased(self, trace: Trace, affinity: WorkerAffinity) -> AsyncIterator[Lease]:
        planned, caller = trace.job, trace.job.caller
        async with AsyncExitStack() as stack:
            with self._stats.queued(planned.row.slug):
                request = LeaseRequest(
                    planned.row.slug,
                    planned.max_wait_s,
                    planned.keep_alive_s,
                    caller.may_load,
                    caller.may_evict,
                    prefers=affinity.pid,
                    client=caller.client,
                    is_admin="admin" in caller.scopes,
                    may_shorten=caller.may_evict and not caller.is_restricted,
                    wait=trace.wait,
                )
                lease = await stack.enter_async_context(self.lifecycle.lease(request))
            if planned.version is not None and planned.version != lease.version:
                raise RequestError(
                    f"{planned.row.slug} is served by version {lease.version}, not {planned.version[:64]!r}",
                    status=404,
                    code="model_version_not_found",
                    param="version",
                )
            trace.has_worker(lease.pid)
            affinity.pid = lease.pid
            yield lease

    def _counted(self, trace: Trace, meter: Meter, lease: Lease, record: bytes | Done) -> bytes | Done:
        """Count the record; the last one names the model that answered.

        While the model of an edited row loads, the old one answers: the name in the table would be wrong.
        """
        if not isinstance(record, Done):
            trace.relayed(record)
            meter.relayed(record)
            return record
        done, slug = record.model_copy(update={"model": lease.model}), trace.job.row.slug
        trace.is_done(done)
        meter.ended(done.usage.total_tokens)
        self._stats.succeeded(slug, done.usage, trace.seconds, trace.first_token_s)
        return done
