"""Which rows share a worker set: those with equal weights, runtime and device.

A folder is taken for safetensors unless its row says `Runtime` openvino; no file is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from conductor_core.catalogue import Row, RuntimeName, StayLoaded, WorkerSet
from conductor_core.runtimes import resolve_runtime
from conductor_core.sizes import needed_memory
from conductor_core.weights import weights_id


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that will share a worker set once their device is known."""

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
    """Whether the set of these rows stays loaded for good."""
    return any(row.stay_loaded is StayLoaded.TRUE for row in rows)


def unplaced_sets(rows: Sequence[Row]) -> tuple[WorkerSet, ...]:
    """Sets as on a CPU without limits (`cuda` is `cuda:0`): sharing is known before the machine is."""
    fixed = {"auto": "cpu", "cuda": "cuda:0"}
    return worker_sets([replace(g, wanted=fixed.get(g.wanted, g.wanted)) for g in group_rows(rows)])


def group_rows(rows: Sequence[Row]) -> list[Group]:
    """Rows that want the same weights, runtime and device cell, in table order."""
    groups = [Group((row,), runtime, _wanted(row, runtime)) for row in rows for runtime in [_runtime(row)]]
    return _merged(groups)


def _runtime(row: Row) -> RuntimeName:
    return resolve_runtime(row.ref, row.precision, row.runtime)


def _wanted(row: Row, runtime: RuntimeName) -> str:
    return "cpu" if runtime == "openvino" else row.device


def _merged(groups: Sequence[Group]) -> list[Group]:
    merged: dict[tuple[str, str, str], Group] = {}
    for group in groups:
        before = merged.get(group.key)
        merged[group.key] = group if before is None else replace(before, rows=before.rows + group.rows)
    return list(merged.values())


def worker_sets(groups: Sequence[Group]) -> tuple[WorkerSet, ...]:
    """Worker sets of groups whose `wanted` is a device; groups that met on one device become one set."""
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
