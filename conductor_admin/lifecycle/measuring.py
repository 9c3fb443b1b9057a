"""Measurements of each set's memory and load times: asks its workers and records their figures.

Decides nothing; `conductor_admin.memory.accounting` evaluates the figures, `conductor_admin.memory.history`
stores them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from archives.weights_info import KnownWeights
from conductor_admin.lifecycle.worker_sets import WorkerSetState, WorkerSetView
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
        return self._history.figures(entry.worker_set, self._known(entry), entry.measured)

    def need(self, entry: WorkerSetState) -> DeviceBytes:
        """Bytes to reserve for the set, as its figures have them; computed anew when one of them changes."""
        kept = self._needs.get(entry.key)
        if kept is None or kept[0] is not entry.worker_set or kept[1] is not entry.archive:
            need = self.figures(entry).admission
            kept = self._needs[entry.key] = (entry.worker_set, entry.archive, need)
        return kept[2]

    def needed(self, worker_set: WorkerSet) -> MemoryFigures:
        """Memory figures of a set that has no entry, from its files if they were looked up."""
        return self._history.figures(worker_set, self._looked_up(worker_set))

    def view(self, entry: WorkerSetState) -> WorkerSetView:
        """View of the entry with its memory figures, loaded or not."""
        known, device = self._known(entry), entry.worker_set.device
        peak = accounting.higher(entry.peak, self._history.of(entry.worker_set, known.identity))
        return entry.view(known, peak.get(device))

    def _known(self, entry: WorkerSetState) -> KnownWeights:
        if archive := entry.archive:
            return KnownWeights(archive.identity, archive.estimated, archive.contexts)
        return self._looked_up(entry.worker_set)

    def _looked_up(self, worker_set: WorkerSet) -> KnownWeights:
        return self._surveyed.get(worker_key(worker_set), KnownWeights())

    def expect(self, entry: WorkerSetState) -> None:
        """Set the entry's expected load time, if an earlier load was timed."""
        if entry.load_s is None and entry.archive:
            entry.load_s = self._history.load_s(entry.worker_set, entry.archive.identity)

    def loaded(self, entry: WorkerSetState, seconds: float) -> None:
        """Record the seconds of a load that succeeded."""
        entry.load_s = seconds
        if entry.archive:
            self._history.loaded(entry.worker_set, entry.archive.identity, seconds)

    async def sample(self, entry: WorkerSetState, *, in_use: bool = False) -> list[Worker]:
        """Ask the set's workers for their health, and measure the set; return the workers without answer.

        `in_use` means that an answer has just ended.
        """
        workers = list(entry.workers.values())
        # All at once, because each hung worker takes the whole time-out.
        answers = await asyncio.gather(*(_answers(worker) for worker in workers))
        self.measure(entry, in_use=in_use)
        return [worker for worker, answer in zip(workers, answers, strict=True) if not answer]

    def measure(self, entry: WorkerSetState, *, in_use: bool = False) -> None:
        """Sum up the workers' own figures, and record them as peaks once all workers are there."""
        sizes = [worker.health.memory for worker in entry.workers.values()]
        if not sizes or None in sizes:
            return
        measured = {"cpu": sum(size or 0 for size in sizes)}
        if entry.worker_set.device != "cpu":
            on_gpu = self._machine.on_gpu(entry.workers.keys())
            if on_gpu is None:
                return
            measured[entry.worker_set.device] = on_gpu
        entry.measured = measured
        entry.peak = accounting.higher(entry.peak, measured)
        if entry.archive and len(entry.workers) >= entry.worker_set.workers:
            self._history.learn(entry.worker_set, entry.archive.identity, measured, in_use=in_use)
            self._needs.clear()


async def _answers(worker: Worker) -> bool:
    try:
        worker.health = await worker.client.health()
    except WorkerUnreachable:
        return False
    return True
