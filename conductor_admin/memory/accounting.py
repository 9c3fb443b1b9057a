"""What a worker set's memory is taken to be: declared, estimated, measured and learned, and where they part.

Pure. Bytes throughout; a mapping is by device. Whoever holds memory is charged here, nothing is allocated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from conductor_admin.memory.policy import Bytes
from conductor_core.catalogue import WorkerSet
from conductor_core.quantities import format_bytes
from conductor_core.sizes import needed_memory

DRIFT = 0.15
"""Share by which a declared cell may miss the measured memory before it is said."""

OUTGROWN = 1.1
"""Times its admission that a set may hold before it is the first to go."""

HOST_OF_GPU_WORKER = 2_000_000_000
"""RAM beside the GPU memory of a worker that was never measured."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One set's memory. `declared` and `estimated` are of all its workers on its device, `measured` is now,
    `learned` the peak on this machine; the last two empty where nothing is known. `settled` says that the
    peak was seen under enough use to stand for itself.
    """

    device: str
    workers: int
    declared: int | None = None
    estimated: int | None = None
    measured: Bytes = field(default_factory=dict)
    learned: Bytes = field(default_factory=dict)
    settled: bool = False

    @classmethod
    def of(
        cls,
        worker_set: WorkerSet,
        estimated: int | None,
        measured: Bytes,
        learned: Bytes,
        *,
        settled: bool = False,
    ) -> Figures:
        """The figures of `worker_set`; before an archive tells, the estimate comes from the model's name."""
        declared = worker_set.declared_memory
        guess = max(needed_memory(row) for row in worker_set.rows) * worker_set.workers
        return cls(
            device=worker_set.device,
            workers=worker_set.workers,
            declared=None if declared is None else declared * worker_set.workers,
            estimated=guess if estimated is None else estimated,
            measured=measured,
            learned=learned,
            settled=settled,
        )

    @property
    def admission(self) -> dict[str, int]:
        """What the set must be given to be loaded: its settled peak, else the largest of peak and guesses.

        A worker that has just loaded holds a third less than one that has answered for a while, so that a
        young peak would admit more sets than the budget holds.
        """
        if self.learned and self.settled:
            return dict(self.learned)
        needed = {self.device: max(self.declared or 0, self.estimated or 0)}
        if self.device != "cpu":
            needed["cpu"] = HOST_OF_GPU_WORKER * self.workers
        return higher(needed, self.learned)


def has_outgrown(admitted: Bytes, measured: Bytes) -> bool:
    """Whether a set holds more than it was admitted for, by more than a tenth."""
    return any(size > admitted.get(d, 0) * OUTGROWN for d, size in measured.items())


def charge(admitted: Bytes, measured: Bytes) -> dict[str, int]:
    """What a loaded set is charged: on each device the larger of what it was given and what it holds."""
    devices = admitted.keys() | measured.keys()
    return {d: max(admitted.get(d, 0), measured.get(d, 0)) for d in devices}


def higher(peak: Bytes, measured: Bytes) -> dict[str, int]:
    """The peak after another measurement."""
    return charge(peak, measured)


def pending(admitted: Bytes, measured: Bytes) -> dict[str, int]:
    """What a set that is still loading has been given and has not yet taken."""
    return {d: max(0, size - measured.get(d, 0)) for d, size in admitted.items()}


def room(budget: Bytes, charged: Bytes, free: Bytes, awaited: Bytes) -> dict[str, int]:
    """What can be given out: the budget less all charges, and not more than is really free.

    `free` is the machine's own figure where it is known; `awaited` is what pending loads will still take.
    """
    left = {d: size - charged.get(d, 0) for d, size in budget.items()}
    real = {d: size - awaited.get(d, 0) for d, size in free.items()}
    return {d: max(0, min(size, real.get(d, size))) for d, size in left.items()}


def corrected_cell(declared: int | None, peak: int, precision: str) -> str | None:
    """The `VRAM/RAM Requirements` cell that measuring asks for; None where the cell is near enough.

    `declared` and `peak` are of one worker; what was never declared has not drifted.
    """
    if declared is None or not peak or abs(peak - declared) <= DRIFT * declared:
        return None
    return f"~{format_bytes(peak).replace(' ', '')} ({precision})"


def parse_peak(value: object) -> dict[str, int]:
    """A peak as it was kept in a file, empty where it is none."""
    if not isinstance(value, Mapping):
        return {}
    sizes = {
        d: size for d, size in value.items() if isinstance(d, str) and isinstance(size, int) and size > 0
    }
    return sizes if len(sizes) == len(value) else {}
