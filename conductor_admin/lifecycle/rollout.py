"""Applies another SETTINGS.md to the worker sets: a set serves its rows until its replacement is ready.

A replacement is loaded beside the sets that serve its rows. If it fails, it serves nothing and appears as the
failure of its rows; `look`, an operator's load and the next reload try it again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import structlog

from conductor_admin.lifecycle import errors, states
from conductor_admin.lifecycle.admission import MemoryAdmission
from conductor_admin.lifecycle.loads import LoadJobs
from conductor_admin.lifecycle.set_state import WorkerSetState
from conductor_admin.lifecycle.states import Failure, State
from conductor_admin.lifecycle.worker_sets import WorkerSetTable
from conductor_core.catalogue import Catalogue, StayLoaded, WorkerSet
from conductor_core.weights import worker_key

log = structlog.get_logger()


class Rollout:
    """Applies changes of SETTINGS.md to the sets of `table`."""

    def __init__(self, table: WorkerSetTable, jobs: LoadJobs, admission: MemoryAdmission) -> None:
        self._table = table
        self._jobs = jobs
        self._admission = admission
        self._successors: list[WorkerSetState] = []

    @property
    def failures(self) -> list[str]:
        """Replacements that could not be loaded, one line each."""
        return [f"{new.name}: {_told(new)}" for new in self._successors if new.load.failure]

    def failure_of(self, slug: str) -> Failure | None:
        """Failure of the replacement for row `slug` while the old set still serves it; else None."""
        new = self._replacement_of(slug)
        failure = new.load.failure if new else None
        return replace(failure, message=_told(new)) if new and failure else None

    def apply(self, catalogue: Catalogue, *, loads: bool) -> None:
        """Begin to serve `catalogue`; `loads` is False if the gateway serves no models."""
        alive = {worker_key(e.worker_set): e for e in self._table.entries.values() if not e.draining}
        before, self._successors = self._successors, []
        for worker_set in catalogue.sets:
            entry = alive.get(worker_key(worker_set))
            if entry is None:
                self._enter(self._table.add(worker_set), loads=loads)
            elif entry in before:
                self._table.change(entry, worker_set)
                self._enter(entry, loads=loads)
            else:
                self._keep(entry, worker_set, loads=loads)
        self._table.keep_rows([row.slug for row in catalogue.rows])
        self._drain_unused()
        for new in list(self._successors):
            self._attempt(new)

    def look(self) -> None:
        """Retry failed replacements, and let those that are ready or have no rival serve their rows."""
        for new in list(self._successors):
            if new.load.running_job:
                continue
            if new.load.state is State.READY or not self._table.serves_beside(new):
                self._take_over(new)
                self._load_if_it_stays(new)
            elif states.has_cooled(new.load.failure, time.monotonic()) and self._admission.has_room_for(new):
                self._attempt(new)

    async def retry(self, slug: str) -> None:
        """Load the replacement for row `slug` now, if there is one. Raises RequestError if it fails."""
        new = self._replacement_of(slug)
        if new is None:
            return
        self._jobs.forget_failure(new)
        await asyncio.wait({self._attempt(new)})
        if new.load.state is State.FAILED and new.load.failure:
            raise errors.load_failed(new.name, new.load.failure, time.monotonic())

    def _replacement_of(self, slug: str) -> WorkerSetState | None:
        rows = ((new, row.slug) for new in self._successors for row in new.worker_set.rows)
        return next(
            (new for new, found in rows if found == slug and self._table.serving(slug) is not new), None
        )

    def _keep(self, entry: WorkerSetState, worker_set: WorkerSet, *, loads: bool) -> None:
        stayed = entry.worker_set.stay_loaded
        self._table.change(entry, worker_set)
        entry.use.keep_claims({row.slug for row in worker_set.rows})
        entry.use.begin_idle_time(entry.idleness)
        self._table.serve(entry)
        if stayed is StayLoaded.FALSE and loads:
            self._load_if_it_stays(entry)

    def _enter(self, new: WorkerSetState, *, loads: bool) -> None:
        """Let a new set serve its rows: at once if no loaded set serves them, else once it is loaded."""
        self._table.serve_new(new)
        if loads and self._table.serves_beside(new):
            self._successors.append(new)
            return
        self._table.serve(new)
        if loads:
            self._load_if_it_stays(new)

    def _load_if_it_stays(self, entry: WorkerSetState) -> None:
        stays = entry.worker_set.stay_loaded is not StayLoaded.FALSE
        if stays and entry.load.wanted and entry.load.state is State.UNAVAILABLE:
            self._jobs.begin_load(entry)

    def _attempt(self, new: WorkerSetState) -> asyncio.Task[None]:
        """Load the replacement beside the sets that serve its rows, or instead of them if both do not fit."""
        if new.load.running_job:
            return new.load.running_job
        if not self._admission.has_room_for(new):
            self._take_over(new)
            return self._jobs.begin_load(new)
        new.use.begin_wait()  # counts as a request: no other set may evict it before it serves
        job = self._jobs.begin_load(new)
        job.add_done_callback(lambda _: self._attempted(new))
        return job

    def _attempted(self, new: WorkerSetState) -> None:
        new.use.end_wait()
        if new not in self._successors:
            return
        if new.load.state is State.READY:
            self._take_over(new)
            return
        self._jobs.set_wanted(new, wanted=False)  # it serves no row: only `look` may load it again
        failure = new.load.failure
        log.error("successor_failed", set=new.name, cause=failure and failure.message)

    def _take_over(self, new: WorkerSetState) -> None:
        """Let the replacement serve its rows from now on, and move their claims to it."""
        self._successors.remove(new)
        slugs = [row.slug for row in new.worker_set.rows]
        served_by = [old for old in map(self._table.serving, slugs) if old and old is not new]
        is_ready = new.load.state is State.READY
        wanted = is_ready or not served_by or any(old.load.wanted for old in served_by)
        self._jobs.set_wanted(new, wanted=wanted)
        for old in served_by:
            old.use.hand_over_claims(slugs, new.use)
            if new.load.archive is not None and new.load.archive == old.load.archive:
                # The same archive under another name: the new set takes over its workers.
                self._jobs.give_workers_away(old)
        self._table.serve(new)
        self._drain_unused()

    def _drain_unused(self) -> None:
        used = {*self._table.present(), *self._successors}
        for entry in self._table.entries.values():
            if entry not in used and not entry.draining:
                self._table.retire(entry)
                self._jobs.set_wanted(entry, wanted=False)
                self._jobs.cancel_load(entry)
                if entry.load.state is State.READY:
                    self._jobs.evict(entry)


def _told(new: WorkerSetState) -> str:
    cause = new.load.failure.message if new.load.failure else "its load was cancelled"
    return f"{new.worker_set.first.technical_model_name} failed: {cause}; the previous model still serves"
