"""Measurements of each set's memory and load times: asks its workers, sums up and records their figures.

Decides nothing; `conductor_admin.memory.accounting` evaluates the figures, `conductor_admin.memory.history`
stores them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from archives.weights_info import KnownWeights
from conductor_admin.lifecycle.set_state import WorkerSetState
from conductor_admin.lifecycle.worker_sets import WorkerSetView, view_of
from conductor_admin.memory import accounting
from conductor_admin.memory.accounting import MemoryFigures
from conductor_admin.memory.history import MemoryHistory
from conductor_admin.memory.machine import MemoryOf
from conductor_admin.memory.policy import DeviceBytes
from conductor_admin.workers.client import WorkerUnreachable
from conductor_admin.workers.worker import Archive, Worker
from conductor_core.catalogue import WorkerSet
from conductor_core.weights import worker_key

Survey = Callable[[WorkerSet], Awaitable[KnownWeights]]
"""Function that finds the known facts about a set's weights before it is built; downloads nothing."""


class MemoryMeasurements:
    """Measures sets on `machine` and records in `history`; `survey` is for sets that are not built yet."""

    def __init__(self, machine: MemoryOf, history: MemoryHistory, survey: Survey) -> None:
        self._machine = machine
        self._history = history
        self._survey = survey
        self._surveyed: dict[tuple[object, ...], KnownWeights] = {}
        self._needs: dict[str, tuple[WorkerSet, Archive | None, DeviceBytes]] = {}
        self._looking: asyncio.Task[None] | None = None

    def notice(self, entries: Iterable[WorkerSetState]) -> None:
        """Begin to look up the weights of those of `entries` that were not looked up yet."""
        new = [one.worker_set for one in entries if worker_key(one.worker_set) not in self._surveyed]
        if new and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self.look_up(new), name="survey")

    async def look_up(self, sets: Sequence[WorkerSet]) -> None:
        """Read the weights' files of `sets`, the basis of their figures until they are built."""
        for worker_set in sets:
            self._surveyed.setdefault(worker_key(worker_set), KnownWeights())
        for worker_set in sets:
            self._surveyed[worker_key(worker_set)] = await self._survey(worker_set)
            self._needs.clear()

    async def close(self) -> None:
        """Cancel a running look-up."""
        if self._looking and not self._looking.done():
            self._looking.cancel()
            await asyncio.wait({self._looking})

    def figures(self, entry: WorkerSetState) -> MemoryFigures:
        """Current memory figures of the set."""
        return self._history.figures(entry.worker_set, self._known(entry), entry.memory.measured)

    def need(self, entry: WorkerSetState) -> DeviceBytes:
        """Bytes to reserve for the set, as its figures have them; computed anew when one of them changes."""
        kept = self._needs.get(entry.key)
        if kept is None or kept[0] is not entry.worker_set or kept[1] is not entry.load.archive:
            need = self.figures(entry).admission
            kept = self._needs[entry.key] = (entry.worker_set, entry.load.archive, need)
        return kept[2]

    def needed(self, worker_set: WorkerSet) -> MemoryFigures:
        """Memory figures of a set that has no entry, from its files if they were looked up."""
        return self._history.figures(worker_set, self._looked_up(worker_set))

    def view(self, entry: WorkerSetState) -> WorkerSetView:
        """View of the entry with its memory figures, loaded or not."""
        known, device = self._known(entry), entry.worker_set.device
        peak = accounting.higher(entry.memory.peak, self._history.of(entry.worker_set, known.identity))
        return view_of(entry, known, peak.get(device))

    def _known(self, entry: WorkerSetState) -> KnownWeights:
        if archive := entry.load.archive:
            return KnownWeights(archive.identity, archive.estimated, archive.contexts)
        return self._looked_up(entry.worker_set)

    def _looked_up(self, worker_set: WorkerSet) -> KnownWeights:
        return self._surveyed.get(worker_key(worker_set), KnownWeights())

    def load_s(self, entry: WorkerSetState) -> float | None:
        """Seconds of an earlier load of the same archive, None if none was timed."""
        archive = entry.load.archive
        return self._history.load_s(entry.worker_set, archive.identity) if archive else None

    def loaded(self, entry: WorkerSetState, seconds: float) -> None:
        """Record the seconds of a load that succeeded."""
        if entry.load.archive:
            self._history.loaded(entry.worker_set, entry.load.archive.identity, seconds)

    async def ask_workers(self, entry: WorkerSetState) -> list[Worker]:
        """Ask the set's workers for their health; return those without answer."""
        workers = list(entry.load.workers.values())
        # All at once, because each hung worker takes the whole time-out.
        answers = await asyncio.gather(*(_answers(worker) for worker in workers))
        return [worker for worker, answer in zip(workers, answers, strict=True) if not answer]

    def measure(self, entry: WorkerSetState, *, in_use: bool = False) -> dict[str, int] | None:
        """Sum up the workers' own figures, by device; None while one is unknown.

        Once all workers are there, the sum counts as a peak. `in_use` means that an answer has just ended.
        """
        load, device = entry.load, entry.worker_set.device
        sizes = [worker.health.memory for worker in load.workers.values()]
        if not sizes or None in sizes:
            return None
        measured = {"cpu": sum(size or 0 for size in sizes)}
        if device != "cpu":
            on_gpu = self._machine.on_gpu(load.workers.keys())
            if on_gpu is None:
                return None
            measured[device] = on_gpu
        if load.archive and len(load.workers) >= entry.worker_set.workers:
            self._history.learn(entry.worker_set, load.archive.identity, measured, in_use=in_use)
            self._needs.clear()
        return measured


async def _answers(worker: Worker) -> bool:
    try:
        worker.health = await worker.client.health()
    except WorkerUnreachable:
        return False
    return True
