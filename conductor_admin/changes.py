"""Applies a plan to the worker sets, row by row: what serves goes on serving until its successor is there."""

from __future__ import annotations

import asyncio
import time

import structlog

from conductor_admin.rooms import Rooms
from conductor_admin.set_entry import SetEntry
from conductor_admin.set_jobs import SetJobs
from conductor_admin.set_table import SetTable
from conductor_admin.settings_plan import Plan
from conductor_admin.states import State
from conductor_core.catalogue import StayLoaded, WorkerSet

log = structlog.get_logger()


class Changes:
    """Changes to the sets of `table`; `failures` are successors that could not be loaded, by set name."""

    def __init__(self, table: SetTable, jobs: SetJobs, rooms: Rooms) -> None:
        self.failures: dict[str, str] = {}
        self._table = table
        self._jobs = jobs
        self._rooms = rooms
        self._tasks: set[asyncio.Task[None]] = set()

    def apply(self, plan: Plan, *, loads: bool) -> None:
        """Begin everything that `plan` asks for; `loads` is whether models are served at all."""
        self.failures.clear()
        for task in self._tasks:
            task.cancel()
        entries = {old.name: self._table.named(old.name) for old, _ in (*plan.kept, *plan.rebuilt)}
        removed = [self._table.named(old.name) for old in plan.removed]
        for old, new in plan.kept:
            self._keep(entries[old.name], new, loads=loads)
        for old, new in plan.rebuilt:
            self._rebuild(entries[old.name], new, loads=loads)
        for worker_set in plan.added:
            self._add(worker_set, loads=loads)
        for entry in removed:
            self._retire(entry)

    def _keep(self, entry: SetEntry, worker_set: WorkerSet, *, loads: bool) -> None:
        stayed, entry.worker_set = entry.worker_set.stay_loaded, worker_set
        entry.claims &= {row.slug for row in worker_set.rows}
        entry.expires = entry.idleness.expires(time.monotonic())
        self._table.serve(entry)
        if stayed is StayLoaded.FALSE:
            self._load_if_it_stays(entry, loads=loads)

    def _add(self, worker_set: WorkerSet, *, loads: bool) -> SetEntry:
        entry = self._table.add(worker_set)
        self._table.serve(entry)
        self._load_if_it_stays(entry, loads=loads)
        return entry

    def _load_if_it_stays(self, entry: SetEntry, *, loads: bool) -> None:
        stays = entry.worker_set.stay_loaded is not StayLoaded.FALSE
        if loads and stays and entry.state is State.UNAVAILABLE:
            self._jobs.begin_load(entry)

    def _rebuild(self, old: SetEntry, worker_set: WorkerSet, *, loads: bool) -> None:
        if old.state is not State.READY:
            self._retire(old)
            self._add(worker_set, loads=loads)
            return
        task = asyncio.create_task(self._succeed(old, worker_set), name=f"{old.name} successor")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _succeed(self, old: SetEntry, worker_set: WorkerSet) -> None:
        """Load the new version beside the old, or after it where both do not fit."""
        new = self._table.add(worker_set)
        if not self._rooms.has_room_for(new):
            self._table.serve(new)
            self._retire(old)
            self._jobs.begin_load(new)
            return
        new.waiting += 1  # it is spoken for: nobody may evict it before it serves
        try:
            await asyncio.wait({self._jobs.begin_load(new)})
        except asyncio.CancelledError:
            self._retire(new)
            raise
        finally:
            new.waiting -= 1
        if new.state is State.READY:
            self._table.serve(new)
            self._retire(old)
            return
        cause = new.failure.message if new.failure else "its load was ended"
        self.failures[old.name] = f"{worker_set.name}: {cause}; the version before it still serves"
        log.error("successor_failed", set=worker_set.name, cause=cause)
        self._retire(new)

    def _retire(self, entry: SetEntry) -> None:
        entry.retired, entry.wanted = True, False
        if entry.state is State.LOADING and entry.job:
            entry.job.cancel()
        elif entry.state is State.READY:
            self._jobs.evict(entry)
