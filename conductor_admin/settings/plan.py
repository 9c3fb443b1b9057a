"""Plan of another SETTINGS.md: changed rows and sets, and whether they fit into memory. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from conductor_admin.memory.accounting import MemoryFigures, corrected_cell
from conductor_admin.memory.policy import DeviceBytes, positive_difference, total
from conductor_core.catalogue import Catalogue, Row, StayLoaded, WorkerSet
from conductor_core.weights import worker_key


@dataclass(frozen=True, slots=True)
class Plan:
    """Change from one catalogue to the next. `kept` and `rebuilt` are pairs of old and new set.

    A kept set keeps its workers, even if its other values change; `rows` maps each slug to its change.
    """

    catalogue: Catalogue
    kept: tuple[tuple[WorkerSet, WorkerSet], ...]
    rebuilt: tuple[tuple[WorkerSet, WorkerSet], ...]
    added: tuple[WorkerSet, ...]
    removed: tuple[WorkerSet, ...]
    rows: Mapping[str, str]

    @property
    def changes_nothing(self) -> bool:
        return all(change == "untouched" for change in self.rows.values())


def plan_change(old: Catalogue, new: Catalogue) -> Plan:
    """Plan the change from `old` to `new`."""
    before = {worker_key(one): one for one in old.sets}
    kept = tuple((before[worker_key(one)], one) for one in new.sets if worker_key(one) in before)
    left = {one.name: one for one in old.sets if one not in [pair[0] for pair in kept]}
    fresh = [one for one in new.sets if worker_key(one) not in before]
    rebuilt = tuple((left.pop(one.name), one) for one in fresh if one.name in left)
    added = tuple(one for one in fresh if one not in [pair[1] for pair in rebuilt])
    rows = {row.slug: _row_change(old, new, row) for row in new.rows}
    rows |= {row.slug: "removed" for row in old.rows if row.slug not in rows}
    return Plan(new, kept, rebuilt, added, tuple(left.values()), rows)


def _row_change(old: Catalogue, new: Catalogue, row: Row) -> str:
    before = old.row(row.slug)
    if before is None:
        return "added"
    if worker_key(old.set_of(row.slug)) != worker_key(new.set_of(row.slug)):
        return "rebuilt"
    has_other_persona = (old.persona, old.personas) != (new.persona, new.personas)
    return "changed" if has_other_persona or replace(before, line=row.line) != row else "untouched"


def plan_to_json(
    plan: Plan, figures: Mapping[str, MemoryFigures], before: Mapping[str, DeviceBytes], budget: DeviceBytes
) -> dict[str, Any]:
    """Answer of `GET /admin/plan`; `figures` of new sets, and memory `before` of old ones, by set name."""
    needs = {name: one.admission for name, one in figures.items()}
    words = ("added", "rebuilt", "changed", "removed", "untouched")
    sets = plan.catalogue.sets
    resident = [one for one in sets if one.stay_loaded is StayLoaded.TRUE]
    taken = total(needs[one.name] for one in resident)
    return {
        **{word: [slug for slug, change in plan.rows.items() if change == word] for word in words},
        "warnings": list(plan.catalogue.warnings),
        "resident_fits": not positive_difference(taken, budget),
        "memory": {
            device: {"budget": size, "resident": taken.get(device, 0)} for device, size in budget.items()
        },
        "sets": [_set(one, figures[one.name]) for one in sets],
        "corrections": [correction for one in sets for correction in _corrections(one, figures[one.name])],
        "drains_first": [new.name for _, new in plan.rebuilt if _is_tight(new, needs, before, taken, budget)],
        "never_fits": _never_fits(plan.catalogue, needs, budget),
        "never_together": [list(pair) for pair in _never_together(plan.catalogue, needs, budget)],
    }


def _set(one: WorkerSet, figures: MemoryFigures) -> dict[str, Any]:
    """Bytes of all workers on the set's device; null if unknown."""
    return {
        "set": one.name,
        "device": one.device,
        "declared": figures.declared,
        "estimated": figures.estimated,
        "peak": figures.learned.get(one.device),
        "needed": figures.admission[one.device],
    }


def _corrections(one: WorkerSet, figures: MemoryFigures) -> Iterator[dict[str, Any]]:
    """Yield a correction for each row whose declared memory differs too much from the measured peak."""
    peak = figures.learned.get(one.device, 0) // one.workers
    for row in one.rows:
        if cell := corrected_cell(row.declared_memory, peak, row.precision_word):
            yield {"category": row.slug, "declared": row.declared_memory, "peak": peak, "cell": cell}


def plan_start(catalogue: Catalogue) -> Plan:
    """Plan of a gateway that serves nothing yet: every row is added."""
    return plan_change(replace(catalogue, rows=(), sets=(), persona=None, personas={}), catalogue)


def _is_tight(
    new: WorkerSet,
    needs: Mapping[str, DeviceBytes],
    before: Mapping[str, DeviceBytes],
    taken: DeviceBytes,
    budget: DeviceBytes,
) -> bool:
    """True if the new version does not fit beside the old one and the resident sets."""
    beside = [] if new.stay_loaded is StayLoaded.TRUE else [needs[new.name]]
    return bool(positive_difference(total([taken, *beside, before[new.name]]), budget))


def _never_fits(
    catalogue: Catalogue, needs: Mapping[str, DeviceBytes], budget: DeviceBytes
) -> list[dict[str, Any]]:
    """Sets that can never be loaded, because they do not fit beside the resident sets."""
    refused = []
    for one in catalogue.sets:
        beside = [s for s in catalogue.sets if s.stay_loaded is StayLoaded.TRUE and s is not one]
        left = positive_difference(budget, total(needs[s.name] for s in beside))
        for device, short in positive_difference(needs[one.name], left).items():
            needed = needs[one.name][device]
            refused.append(
                {"set": one.name, "device": device, "needed": needed, "room": max(0, needed - short)}
            )
    return refused


def _never_together(
    catalogue: Catalogue, needs: Mapping[str, DeviceBytes], budget: DeviceBytes
) -> list[tuple[str, str]]:
    """Pairs of sets that fit singly beside the resident sets, but not together."""
    pairs = []
    alone = {refused["set"] for refused in _never_fits(catalogue, needs, budget)}
    able = [one for one in catalogue.sets if one.name not in alone]
    for one, other in combinations(able, 2):
        rest = [s for s in catalogue.sets if s.stay_loaded is StayLoaded.TRUE and s not in (one, other)]
        if positive_difference(total(needs[s.name] for s in (one, other, *rest)), budget):
            pairs.append((one.name, other.name))
    return pairs
