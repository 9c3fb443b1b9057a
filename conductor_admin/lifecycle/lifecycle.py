"""Lifecycle of all worker sets: commands of operators, ends of TorchServe, edits of SETTINGS.md.

Pure functions of `conductor_admin.memory` and `states` decide; `conductor_admin.workers.loader` acts. A load
is a job that requests wait for; it belongs to none of them.
Everything runs on one event loop: between two awaits nothing changes, so there is no lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from conductor_admin.lifecycle.admission import MemoryAdmission
from conductor_admin.lifecycle.leases import Lease, LeaseLimits, LeaseManager, LeaseRequest
from conductor_admin.lifecycle.load_record import LifecycleListener
from conductor_admin.lifecycle.loads import LoadJobs
from conductor_admin.lifecycle.measuring import MemoryMeasurements
from conductor_admin.lifecycle.reconciler import Reconciler
from conductor_admin.lifecycle.rollout import Rollout
from conductor_admin.lifecycle.states import State
from conductor_admin.lifecycle.worker_sets import WorkerSetTable, WorkerSetView
from conductor_admin.memory.history import MemoryHistory
from conductor_admin.memory.machine import MemoryOf
from conductor_admin.settings.plan import Plan
from conductor_admin.workers.loader import Loader
from conductor_core.catalogue import StayLoaded, WorkerSet
from handlers.wire import RequestError


class Lifecycle:
    """States of all worker sets; call `start` before use and `close` at the end."""

    def __init__(
        self,
        sets: Iterable[WorkerSet],
        loader: Loader,
        limits: LeaseLimits,
        machine: MemoryOf,
        history: MemoryHistory,
        *,
        serves_models: bool = True,
        listener: LifecycleListener | None = None,
    ) -> None:
        self.serves_models = serves_models
        self.torchserve_fault: str | None = None
        self._table = WorkerSetTable(sets)
        self.admission = MemoryAdmission(
            self._table.entries,
            limits.budget,
            machine,
            MemoryMeasurements(machine, history, loader.survey),
        )
        self._jobs = LoadJobs(loader, self.admission, limits.load_s, listener)
        self._reconciler = Reconciler(self._table, self._jobs, self.admission, machine)
        self._rollout = Rollout(self._table, self._jobs, self.admission)
        self._leases = LeaseManager(
            self._table, self._jobs, self.admission, self._reconciler, limits, serves_models=serves_models
        )

    @property
    def torchserve_up(self) -> bool:
        return self._jobs.torchserve_up.is_set()

    def view(self, name: str) -> WorkerSetView:
        """View of the set that serves the row `name` now, with the failure of its replacement, if any."""
        view, failure = (
            self.admission.measurements.view(self._table.named(name)),
            self._rollout.failure_of(name),
        )
        return replace(view, failure=failure) if failure and view.state is State.READY else view

    def state(self, name: str) -> State:
        """State of the set that serves the row `name` now; a stream asks before each of its records."""
        return self._table.named(name).load.state

    def views(self) -> list[WorkerSetView]:
        return [self.admission.measurements.view(entry) for entry in self._table.present()]

    def lease(self, request: LeaseRequest) -> AbstractAsyncContextManager[Lease]:
        """A worker for a request: see `LeaseManager.lease`."""
        return self._leases.lease(request)

    async def load(self, slug: str) -> None:
        """Load the row's set for an operator; ends a cool-down. Raises RequestError as a lease does."""
        if not self._jobs.closing:
            await self._rollout.retry(slug)
        entry = self._table.named(slug)
        if not self._jobs.closing:
            self._jobs.forget_failure(entry)
        await self._leases.load(slug)

    async def unload(self, name: str, slug: str, *, force: bool, drain: bool) -> None:
        """Drop the row's claim and end the set's workers; 409 while other rows claim it, without `force`."""
        entry = self._table.named(slug)
        others = sorted(entry.use.claims - {slug})
        entry.use.drop_claim(slug)
        if others and not force:
            raise RequestError(
                f"{name} is also used by {', '.join(others)}; use force=true to unload it for all",
                status=409,
                code="model_in_use",
                param="force",
            )
        entry.use.drop_claims()
        self._jobs.set_wanted(entry, wanted=False)
        await self._jobs.end(entry, drain=drain)

    def start(self) -> None:
        """Begin to load the sets that stay loaded."""
        for entry in self._table.present():
            if entry.worker_set.stay_loaded is not StayLoaded.FALSE:
                rows = entry.worker_set.rows
                entry.use.claim(row.slug for row in rows if row.stay_loaded is not StayLoaded.FALSE)
                self._jobs.begin_load(entry)

    def apply(self, plan: Plan) -> None:
        """Begin to change the sets as `plan` says; a set goes on serving until its replacement is ready."""
        self._rollout.apply(plan.catalogue, loads=self.serves_models and not self._jobs.closing)

    @property
    def failed_changes(self) -> list[str]:
        """Messages about replacements that failed to load, while the old sets still serve their rows."""
        return self._rollout.failures

    async def torchserve_started(self) -> None:
        self.torchserve_heard()

    def torchserve_heard(self) -> None:
        """TorchServe answers again: loads that wait for it go on."""
        self.torchserve_fault = None
        self._jobs.torchserve_up.set()

    def torchserve_silent(self, fault: str) -> None:
        """TorchServe does not answer: loads wait, loaded workers go on serving."""
        self.torchserve_fault = fault
        self._jobs.torchserve_up.clear()

    async def torchserve_ended(self) -> None:
        """TorchServe and its workers have ended: READY sets are loaded again once it is back."""
        self.torchserve_silent("TorchServe has exited and is being restarted")
        for entry in self._table.entries.values():
            self._jobs.torchserve_ended(entry)

    async def reconcile(self) -> None:
        """Reconcile observed and wanted states of all sets; called every second."""
        self.admission.measurements.notice(self._table.present())
        self._rollout.look()
        await self._reconciler.reconcile()

    async def refresh(self) -> None:
        """Ask every worker for its health, and the machine for its memory; called every few seconds."""
        await self._reconciler.refresh()

    def refuse(self) -> None:
        """Refuse new leases from now on; streams that break off get `shutting_down` as their error."""
        self._jobs.refuse(self._table.entries.values())

    async def close(self) -> None:
        """End the jobs and the connections to workers; streams have ended with TorchServe's workers."""
        self.refuse()
        await self._reconciler.close()
        await self.admission.measurements.close()
        await self._jobs.close(self._table.entries.values())
