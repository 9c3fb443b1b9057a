"""Which runtime and device serve each row, and which rows share a worker set.

Pure functions of the catalogue and a `Machine`; no file and no library is looked at, so a folder is taken for
safetensors unless its row says `Runtime` openvino.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from conductor_core.catalogue import Catalogue, Precision, Row, RuntimeName, StayLoaded, WorkerSet
from conductor_core.issues import CellError, Issue, SettingsError
from conductor_core.machine import Gpu, Machine
from conductor_core.quantities import format_bytes
from conductor_core.runtimes import resolve_runtime
from conductor_core.weights import weights_id

LARGEST_ON_CPU = 3_000_000_000
"""Parameters above which `auto` does not choose the CPU: answers would be too slow to be of use."""

USABLE_SHARE = 0.9

_BYTES_PER_PARAMETER = {
    Precision.FP32: 4.0,
    Precision.FP16: 2.0,
    Precision.BF16: 2.0,
    Precision.INT8: 1.0,
    Precision.INT4: 0.6,
}
_FILE_BYTES_PER_PARAMETER = 2.0
_GGUF_BITS = re.compile(r"(?:Q|F|IQ|TQ|FP)(\d+)")
_SIZE_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)([BM])(?![A-Za-z0-9])", re.IGNORECASE)

Devices = Mapping[str, str]


def bytes_per_parameter(row: Row) -> float:
    """Bytes that one weight takes at the row's precision; a file's own is told by its name."""
    if row.precision is not Precision.FILE:
        return _BYTES_PER_PARAMETER[row.precision]
    bits = _GGUF_BITS.search(row.file_precision or "")
    return (float(bits[1]) + 0.5) / 8 if bits else _FILE_BYTES_PER_PARAMETER


def parameters_of(row: Row) -> float | None:
    """Parameters of the row's model: from its names ("8B", "8x7B"), else from declared memory, else None."""
    for name in (row.ref.file or row.ref.source, row.ref.source, row.model):
        sizes = [_size(match) for match in _SIZE_IN_NAME.finditer(name)]
        if sizes:
            return max(sizes)
    if row.declared_memory is None:
        return None
    return row.declared_memory / bytes_per_parameter(row)


def _size(match: re.Match[str]) -> float:
    return int(match[1] or 1) * float(match[2]) * (1e9 if match[3] in "Bb" else 1e6)


def needed_memory(row: Row) -> int:
    """Bytes to plan with, for one worker that was never measured: the larger of declared and the weights."""
    parameters = parameters_of(row) or 0.0
    return max(row.declared_memory or 0, int(parameters * bytes_per_parameter(row)))


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows that will share a worker set once their device is known."""

    rows: tuple[Row, ...]
    runtime: RuntimeName
    wanted: str

    @property
    def key(self) -> tuple[str, str, str]:
        return (weights_id(self.rows[0].ref, self.rows[0].precision), self.runtime, self.wanted)

    @property
    def resident(self) -> bool:
        return any(row.stay_loaded is StayLoaded.TRUE for row in self.rows)

    @property
    def needed(self) -> int:
        return max(needed_memory(row) for row in self.rows) * max(row.workers for row in self.rows)


def place(catalogue: Catalogue, machine: Machine) -> Catalogue:
    """The catalogue with its sets put on `machine`; SettingsError lists every row that fits nowhere.

    Resident sets are placed first and take their memory for good; the others take turns in what is left.
    """
    placer = _Placer(machine, catalogue.source)
    groups = _groups(catalogue.rows)
    for group in sorted(groups, key=lambda group: not group.resident):
        placer.add(group)
    if placer.issues:
        raise SettingsError(placer.issues)
    return replace(catalogue, sets=_sets([replace(g, wanted=placer.chosen[g.key]) for g in groups]))


def unplaced_sets(rows: Sequence[Row]) -> tuple[WorkerSet, ...]:
    """Sets as on a CPU without limits (`cuda` is `cuda:0`): sharing is known before the machine is."""
    fixed = {"auto": "cpu", "cuda": "cuda:0"}
    return _sets([replace(g, wanted=fixed.get(g.wanted, g.wanted)) for g in _groups(rows)])


def _groups(rows: Sequence[Row]) -> list[_Group]:
    groups = [_Group((row,), runtime, _wanted(row, runtime)) for row in rows for runtime in [_runtime(row)]]
    return _merged(groups)


def _runtime(row: Row) -> RuntimeName:
    return resolve_runtime(row.ref, row.precision, row.runtime)


def _wanted(row: Row, runtime: RuntimeName) -> str:
    return "cpu" if runtime == "openvino" else row.device


def _merged(groups: Sequence[_Group]) -> list[_Group]:
    merged: dict[tuple[str, str, str], _Group] = {}
    for group in groups:
        before = merged.get(group.key)
        merged[group.key] = group if before is None else replace(before, rows=before.rows + group.rows)
    return list(merged.values())


def _sets(groups: Sequence[_Group]) -> tuple[WorkerSet, ...]:
    return tuple(_worker_set(group) for group in _merged(groups))


def _worker_set(group: _Group) -> WorkerSet:
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


class _Placer:
    """Gives devices to groups one after another, remembering what resident ones took."""

    def __init__(self, machine: Machine, source: str) -> None:
        self._machine = machine
        self._source = source
        self._resident = {gpu.device: 0 for gpu in machine.gpus}
        self._promised = {gpu.device: 0 for gpu in machine.gpus}
        self.chosen: dict[tuple[str, str, str], str] = {}
        self.issues: list[Issue] = []

    def add(self, group: _Group) -> None:
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

    def _device(self, group: _Group) -> str:
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
        return int(min(gpu.free, gpu.total * USABLE_SHARE)) - self._resident[gpu.device]

    def _named_gpu(self, group: _Group) -> str:
        gpu = next((gpu for gpu in self._machine.gpus if gpu.device == group.wanted), None)
        if gpu is None or gpu.total * USABLE_SHARE < group.needed:
            raise CellError(self._no_gpu(group))
        return gpu.device

    def _small_enough(self, group: _Group) -> str:
        parameters = parameters_of(group.rows[0])
        if parameters is not None and parameters > LARGEST_ON_CPU:
            raise CellError(
                f"{self._no_gpu(group)}, and {parameters / 1e9:.3g} B parameters are too slow on a CPU "
                "(up to 3 B are put there by auto; Device cpu insists)"
            )
        return self._cpu(group)

    def _cpu(self, group: _Group) -> str:
        room = int(self._machine.ram * USABLE_SHARE)
        if group.needed > room:
            raise CellError(
                f"needs {format_bytes(group.needed)} of memory, {format_bytes(room)} can be had here"
            )
        return "cpu"

    def _no_gpu(self, group: _Group) -> str:
        need = format_bytes(group.needed)
        if not self._machine.gpus:
            return f"needs a GPU with {need}, this machine has none that can be used"
        rooms = ", ".join(
            f"{gpu.device} {format_bytes(max(0, self._room(gpu)))}" for gpu in self._machine.gpus
        )
        return f"needs a GPU with {need}; left beside the resident rows: {rooms}"
