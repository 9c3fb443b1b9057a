"""What time alone makes due: lost workers, failed residents, idle sets, memory that grew, `yield` sets.

Called every second by `conductor_admin.gateway.Heart`; decides nothing about requests.
"""

from __future__ import annotations

import asyncio
import time

from conductor_admin.machine_memory import MemoryOf
from conductor_admin.processes import is_alive
from conductor_admin.rooms import Rooms
from conductor_admin.set_entry import SetEntry
from conductor_admin.set_jobs import SetJobs
from conductor_admin.set_table import SetTable
from conductor_admin.states import State, has_cooled
from conductor_core.catalogue import StayLoaded

SAMPLE_S = 1.0
"""Seconds between two measurements of a set that answers; each costs its worker a walk over its pages."""


class Upkeep:
    """Brings what is observed and what is wanted of the sets of `table` together."""

    def __init__(self, table: SetTable, jobs: SetJobs, rooms: Rooms, machine: MemoryOf) -> None:
        self._table = table
        self._jobs = jobs
        self._rooms = rooms
        self._machine = machine
        self._samples: set[asyncio.Task[None]] = set()
        self._adoptions: dict[str, asyncio.Task[None]] = {}

    async def reconcile(self) -> None:
        """One look at every set."""
        for entry in list(self._table.entries.values()):
            for worker in list(entry.workers.values()):
                if not is_alive(worker.pid):
                    self._jobs.lost(entry, worker)
            if entry.state is State.READY and len(entry.workers) < entry.worker_set.workers:
                self._adopt_more(entry)
            self.end_if_idle(entry)
            self._restore(entry)
        self._table.forget_gone()
        self._rooms.relieve()
        self._rooms.settle()

    async def refresh(self) -> None:
        """Ask the machine and every worker for their memory; a worker that takes no connection is lost."""
        await self._machine.look()
        # At once: one worker that hangs must not hold up the beat by more than its own timeout.
        await asyncio.gather(*(self._look_at(entry) for entry in self._table.entries.values()))

    def answered(self, entry: SetEntry) -> None:
        """Measure the set again, at most every SAMPLE_S: it holds most when an answer has just ended."""
        now = time.monotonic()
        if entry.state is State.READY and now - entry.sampled_at >= SAMPLE_S:
            entry.sampled_at = now
            task = asyncio.create_task(self._look_at(entry, in_use=True), name=f"{entry.name} sample")
            self._samples.add(task)
            task.add_done_callback(self._samples.discard)

    async def close(self) -> None:
        """End the measurements and adoptions under way."""
        tasks = {*self._samples, *self._adoptions.values()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _adopt_more(self, entry: SetEntry) -> None:
        # Apart from the beat, which a TorchServe that does not answer would stop.
        if entry.name not in self._adoptions and self._jobs.torchserve_up.is_set():
            task = asyncio.create_task(self._jobs.adopt_more(entry), name=f"{entry.name} adoption")
            self._adoptions[entry.name] = task
            task.add_done_callback(lambda _: self._adoptions.pop(entry.name, None))

    async def _look_at(self, entry: SetEntry, *, in_use: bool = False) -> None:
        for worker in await self._rooms.gauges.sample(entry, in_use=in_use):
            if not is_alive(worker.pid):
                self._jobs.lost(entry, worker)

    def end_if_idle(self, entry: SetEntry) -> None:
        """Unload the set if nobody asked for it for long enough."""
        if entry.state is State.READY and not entry.is_busy and time.monotonic() >= entry.expires:
            self._rooms.swaps.ended(entry.key)
            self._jobs.evict(entry)

    def _restore(self, entry: SetEntry) -> None:
        """Load what stays loaded and is not: residents after a failure, `yield` sets once there is room."""
        if not entry.wanted or entry.worker_set.stay_loaded is StayLoaded.FALSE:
            return
        has_failed = entry.state is State.FAILED and has_cooled(entry.failure, time.monotonic())
        if has_failed or self._may_return(entry):
            self._jobs.begin_load(entry)

    def _may_return(self, entry: SetEntry) -> bool:
        is_away = entry.state is State.UNAVAILABLE and entry.worker_set.stay_loaded is StayLoaded.YIELD
        return is_away and self._jobs.torchserve_up.is_set() and self._rooms.has_room_for(entry)
