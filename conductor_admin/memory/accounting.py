"""Memory accounting: computes a set's need and charge from declared, estimated, measured and learned figures.

Pure. All figures are bytes; a mapping is by device. Sets are only charged here, nothing is allocated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from conductor_admin.memory.policy import DeviceBytes
from conductor_core.catalogue import WorkerSet
from conductor_core.quantities import format_bytes
from conductor_core.sizes import needed_memory

DRIFT = 0.15
"""Share by which declared and measured memory may differ before a correction is proposed."""

OUTGROWN = 1.1
"""Factor of its admission up to which a set may grow; beyond it, the set is evicted first."""

HOST_OF_GPU_WORKER = 2_000_000_000
"""RAM beside the GPU memory of a worker that was never measured."""


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """Memory of one set. `declared` and `estimated` are of all workers on its device, `measured` is the
    latest figure, `learned` the peak on this machine; the last two are empty if unknown. `settled` means
    that the peak was seen under enough use to replace the estimates.
    """

    device: str
    workers: int
    declared: int | None = None
    estimated: int | None = None
    measured: DeviceBytes = field(default_factory=dict)
    learned: DeviceBytes = field(default_factory=dict)
    settled: bool = False

    @classmethod
    def of(
        cls,
        worker_set: WorkerSet,
        estimated: int | None,
        measured: DeviceBytes,
        learned: DeviceBytes,
        *,
        settled: bool = False,
    ) -> MemoryFigures:
        """Figures of `worker_set`; without `estimated` from an archive, the rows' model names give it."""
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
        """Bytes to reserve for a load: the settled peak, else the largest of peak and estimates.

        A worker that has just loaded holds a third less than one that has answered for a while, so that an
        early peak would admit more sets than the budget holds.
        """
        if self.learned and self.settled:
            return dict(self.learned)
        needed = {self.device: max(self.declared or 0, self.estimated or 0)}
        if self.device != "cpu":
            needed["cpu"] = HOST_OF_GPU_WORKER * self.workers
        return higher(needed, self.learned)


def has_outgrown(admitted: DeviceBytes, measured: DeviceBytes) -> bool:
    """True if a set holds over a tenth more than it was admitted for."""
    return any(size > admitted.get(d, 0) * OUTGROWN for d, size in measured.items())


def charge(admitted: DeviceBytes, measured: DeviceBytes) -> dict[str, int]:
    """Charge of a loaded set: on each device the larger of its admission and its measured memory."""
    devices = admitted.keys() | measured.keys()
    return {d: max(admitted.get(d, 0), measured.get(d, 0)) for d in devices}


def higher(peak: DeviceBytes, measured: DeviceBytes) -> dict[str, int]:
    """The peak after another measurement."""
    return charge(peak, measured)


def pending(admitted: DeviceBytes, measured: DeviceBytes) -> dict[str, int]:
    """Bytes that a loading set was admitted for and does not hold yet."""
    return {d: max(0, size - measured.get(d, 0)) for d, size in admitted.items()}


def room(
    budget: DeviceBytes, charged: DeviceBytes, free: DeviceBytes, awaited: DeviceBytes
) -> dict[str, int]:
    """Bytes that can be admitted: the budget less all charges, at most what is really free.

    `free` is the machine's own figure, if known; `awaited` is what running loads will still take.
    """
    left = {d: size - charged.get(d, 0) for d, size in budget.items()}
    real = {d: size - awaited.get(d, 0) for d, size in free.items()}
    return {d: max(0, min(size, real.get(d, size))) for d, size in left.items()}


def corrected_cell(declared: int | None, peak: int, precision: str) -> str | None:
    """A better `VRAM/RAM Requirements` cell, from the peak; None if the declared one is close enough.

    `declared` and `peak` are bytes of one worker; None without a declared figure.
    """
    if declared is None or not peak or abs(peak - declared) <= DRIFT * declared:
        return None
    return f"~{format_bytes(peak).replace(' ', '')} ({precision})"


def parse_peak(value: object) -> dict[str, int]:
    """Peak from a file's JSON, bytes by device; empty if it is invalid."""
    if not isinstance(value, Mapping):
        return {}
    sizes = {
        d: size for d, size in value.items() if isinstance(d, str) and isinstance(size, int) and size > 0
    }
    return sizes if len(sizes) == len(value) else {}
