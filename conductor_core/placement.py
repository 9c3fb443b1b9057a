"""Placement of rows on devices: rows that share a worker set, and the device of each set; pure.

Rows of equal weights, runtime and device share one set. A folder counts as safetensors unless its row names
a runtime of another form; no file is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from conductor_core.catalogue import Catalogue, Row, RuntimeName, StayLoaded, WorkerSet
from conductor_core.issues import CellError, Issue, SettingsError
from conductor_core.machine import Gpu, Machine
from conductor_core.quantities import MemoryBudget, format_bytes
from conductor_core.runtimes import RUNTIMES, resolve_runtime
from conductor_core.sizes import needed_memory, parameters_of
from conductor_core.weights import weights_id

LARGEST_ON_CPU = 3_000_000_000
"""Parameters above which `auto` does not choose the CPU, because answers would be too slow."""

USABLE_SHARE = 0.9
"""Share of a device's memory that models may use if the operator set no budget."""

NO_BUDGET = MemoryBudget()


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that will share a worker set; `wanted` is the device cell or the chosen device."""

    rows: tuple[Row, ...]
    runtime: RuntimeName
    wanted: str

    @property
    def key(self) -> tuple[str, str, str]:
        return (weights_id(self.rows[0].ref, self.rows[0].precision), self.runtime, self.wanted)

    @property
    def resident(self) -> bool:
        return is_resident(self.rows)

    @property
    def needed(self) -> int:
        return max(needed_memory(row) for row in self.rows) * max(row.workers for row in self.rows)


def is_resident(rows: Sequence[Row]) -> bool:
    """True if the set of these rows always stays loaded."""
    return any(row.stay_loaded is StayLoaded.TRUE for row in rows)


def unplaced_sets(rows: Sequence[Row]) -> tuple[WorkerSet, ...]:
    """Worker sets for a CPU without limits (`cuda` is `cuda:0`), to know which rows share a set."""
    fixed = {"auto": "cpu", "cuda": "cuda:0"}
    return worker_sets([replace(g, wanted=fixed.get(g.wanted, g.wanted)) for g in group_rows(rows)])


def group_rows(rows: Sequence[Row]) -> list[Group]:
    """Groups of rows with the same weights, runtime and device cell, in table order."""
    groups = [Group((row,), runtime, _wanted(row, runtime)) for row in rows for runtime in [_runtime(row)]]
    return _merged(groups)


def _runtime(row: Row) -> RuntimeName:
    return resolve_runtime(row.ref, row.precision, row.runtime)


def _wanted(row: Row, runtime: RuntimeName) -> str:
    return row.device if "cuda" in RUNTIMES[runtime].devices else "cpu"


def _merged(groups: Sequence[Group]) -> list[Group]:
    merged: dict[tuple[str, str, str], Group] = {}
    for group in groups:
        before = merged.get(group.key)
        merged[group.key] = group if before is None else replace(before, rows=before.rows + group.rows)
    return list(merged.values())


def worker_sets(groups: Sequence[Group]) -> tuple[WorkerSet, ...]:
    """Worker sets of groups whose `wanted` is a device; equal groups on one device become one set."""
    return tuple(_worker_set(group) for group in _merged(groups))


def _worker_set(group: Group) -> WorkerSet:
    rows = tuple(sorted(group.rows, key=lambda row: row.line))
    contexts = [row.context for row in rows if row.context is not None]
    return WorkerSet(
        name=rows[0].slug,
        rows=rows,
        runtime=group.runtime,
        device=group.wanted,
        workers=max(row.workers for row in rows),
        context=max(contexts, default=None),
        stay_loaded=_stay_loaded(rows),
        idle_timeout_s=max(row.idle_timeout_s for row in rows),
    )


def _stay_loaded(rows: Sequence[Row]) -> StayLoaded:
    wishes = {row.stay_loaded for row in rows}
    return next(wish for wish in (StayLoaded.TRUE, StayLoaded.YIELD, StayLoaded.FALSE) if wish in wishes)


def place(catalogue: Catalogue, machine: Machine, budget: MemoryBudget = NO_BUDGET) -> Catalogue:
    """The catalogue with its sets placed on `machine`; SettingsError lists all rows that fit nowhere.

    Without the operator's budget nine tenths of a device may be used, and of a GPU no more than is free.

    Resident sets are placed first and keep their memory; the others take turns in the remaining memory.
    """
    placer = _Placer(machine, budget, catalogue.source)
    groups = group_rows(catalogue.rows)
    for group in sorted(groups, key=lambda group: not group.resident):
        placer.add(group)
    if placer.issues:
        raise SettingsError(placer.issues)
    return replace(catalogue, sets=worker_sets([replace(g, wanted=placer.chosen[g.key]) for g in groups]))


def device_budgets(machine: Machine, budget: MemoryBudget = NO_BUDGET) -> dict[str, int]:
    """Bytes that models may use on each device: the operator's budget, else nine tenths of its memory."""
    there = {"cpu": machine.ram, **{gpu.device: gpu.total for gpu in machine.gpus}}
    return {device: _allowed(budget, device, size) for device, size in there.items()}


def _allowed(budget: MemoryBudget, device: str, total: int) -> int:
    own = budget.of(device)
    return int(total * USABLE_SHARE) if own is None else min(own, total)


class _Placer:
    """Chooses devices for groups one after another, and counts the memory of resident groups."""

    def __init__(self, machine: Machine, budget: MemoryBudget, source: str) -> None:
        self._machine = machine
        self._budget = budget
        self._source = source
        self._resident = {gpu.device: 0 for gpu in machine.gpus}
        self._promised = {gpu.device: 0 for gpu in machine.gpus}
        self.chosen: dict[tuple[str, str, str], str] = {}
        self.issues: list[Issue] = []

    def add(self, group: Group) -> None:
        try:
            device = self._device(group)
        except CellError as error:
            first = group.rows[0]
            self.issues.append(Issue(self._source, first.line, 1, "Device", f"{first.slug}: {error}"))
            return
        self.chosen[group.key] = device
        if device != "cpu":
            self._promised[device] += group.needed
            self._resident[device] += group.needed if group.resident else 0

    def _device(self, group: Group) -> str:
        if group.wanted == "cpu":
            return self._cpu(group)
        if group.wanted.startswith("cuda:"):
            return self._named_gpu(group)
        fitting = [gpu for gpu in self._machine.gpus if self._room(gpu) >= group.needed]
        if fitting:
            return max(fitting, key=lambda gpu: (gpu.free - self._promised[gpu.device], -gpu.index)).device
        if group.wanted == "cuda":
            raise CellError(self._no_gpu(group))
        return self._small_enough(group)

    def _room(self, gpu: Gpu) -> int:
        return min(gpu.free, _allowed(self._budget, gpu.device, gpu.total)) - self._resident[gpu.device]

    def _named_gpu(self, group: Group) -> str:
        gpu = next((gpu for gpu in self._machine.gpus if gpu.device == group.wanted), None)
        if gpu is None or _allowed(self._budget, gpu.device, gpu.total) < group.needed:
            raise CellError(self._no_gpu(group))
        return gpu.device

    def _small_enough(self, group: Group) -> str:
        parameters = parameters_of(group.rows[0])
        if parameters is not None and parameters > LARGEST_ON_CPU:
            raise CellError(
                f"{self._no_gpu(group)}, and {parameters / 1e9:.3g} B parameters are too slow on a CPU "
                "(auto uses the CPU up to 3 B; set Device to cpu to use it all the same)"
            )
        return self._cpu(group)

    def _cpu(self, group: Group) -> str:
        room = _allowed(self._budget, "cpu", self._machine.ram)
        if group.needed > room:
            raise CellError(
                f"needs {format_bytes(group.needed)} of memory, {format_bytes(room)} is available"
            )
        return "cpu"

    def _no_gpu(self, group: Group) -> str:
        need = format_bytes(group.needed)
        if not self._machine.gpus:
            return f"needs a GPU with {need}, this machine has no usable GPU"
        rooms = ", ".join(
            f"{gpu.device} {format_bytes(max(0, self._room(gpu)))}" for gpu in self._machine.gpus
        )
        return f"needs a GPU with {need}; free beside the resident rows: {rooms}"
