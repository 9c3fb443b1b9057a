"""What each set's memory and loads are known to be: asks its workers, and learns from what they say.

Decides nothing; `conductor_admin.ledger` says what a figure is good for, `conductor_admin.peaks` keeps it.
"""

from __future__ import annotations

from conductor_admin import ledger
from conductor_admin.ledger import Figures
from conductor_admin.machine_memory import MemoryOf
from conductor_admin.peaks import Peaks
from conductor_admin.set_entry import SetEntry, Worker
from conductor_admin.worker_client import WorkerUnreachable


class Gauges:
    """Measures sets on `machine` and remembers in `peaks`."""

    def __init__(self, machine: MemoryOf, peaks: Peaks) -> None:
        self._machine = machine
        self._peaks = peaks

    def figures(self, entry: SetEntry) -> Figures:
        """The set's memory as it is known now."""
        archive = entry.archive
        identity = archive.identity if archive else None
        return Figures.of(
            entry.worker_set,
            archive.estimated if archive else None,
            entry.measured,
            self._peaks.of(entry.worker_set, identity),
            settled=self._peaks.is_settled(entry.worker_set, identity),
        )

    def expect(self, entry: SetEntry) -> None:
        """Tell the entry how long it will load, where an earlier load of it was timed."""
        if entry.load_s is None and entry.archive:
            entry.load_s = self._peaks.load_s(entry.worker_set, entry.archive.identity)

    def loaded(self, entry: SetEntry, seconds: float) -> None:
        """A load has succeeded, and took so long."""
        entry.load_s = seconds
        if entry.archive:
            self._peaks.loaded(entry.worker_set, entry.archive.identity, seconds)

    async def sample(self, entry: SetEntry, *, in_use: bool = False) -> list[Worker]:
        """Ask the set's workers for their health, and measure it; returns those that took no connection.

        `in_use` says that an answer has just ended.
        """
        gone = []
        for worker in list(entry.workers.values()):
            try:
                worker.health = await worker.client.health()
            except WorkerUnreachable:
                gone.append(worker)
        self.measure(entry, in_use=in_use)
        return gone

    def measure(self, entry: SetEntry, *, in_use: bool = False) -> None:
        """Take the workers' own figures, and learn from them once all workers are there."""
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
        entry.peak = ledger.higher(entry.peak, measured)
        if entry.archive and len(entry.workers) >= entry.worker_set.workers:
            self._peaks.learn(entry.worker_set, entry.archive.identity, measured, in_use=in_use)
