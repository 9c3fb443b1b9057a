"""Each part of a worker set has one writing module, and docs/lifecycle.md has the transitions of the code."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from conductor_admin.lifecycle.states import TRANSITIONS, Event, State, state_after
from tests.source_tree import ROOT, imports, modules

LIFECYCLE = Path("conductor_admin/lifecycle")
RECORDS = {
    "WorkerSetState": LIFECYCLE / "set_state.py",
    "LoadState": LIFECYCLE / "set_state.py",
    "MemoryState": LIFECYCLE / "set_state.py",
    "UseState": LIFECYCLE / "use.py",
    "Worker": Path("conductor_admin/workers/worker.py"),
}
WRITERS = {
    "WorkerSetState": {"worker_sets"},
    "LoadState": {"loads"},
    "MemoryState": {"admission"},
    "UseState": {"use"},
    "Worker": {"leases", "measuring", "reconciler"},
}
WRITERS_OF_A_WORKER = {"in_flight": {"leases"}, "health": {"measuring"}, "liveness": {"reconciler"}}
CHANGING = {
    *("add", "append", "clear", "difference_update", "discard", "extend", "insert", "intersection_update"),
    *("pop", "popitem", "remove", "set", "setdefault", "symmetric_difference_update", "update"),
}
"""Methods that change a collection or an event."""


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def fields(record: str) -> set[str]:
    """Names of the fields of a record."""
    (found,) = [
        node
        for node in ast.walk(tree(RECORDS[record]))
        if isinstance(node, ast.ClassDef) and node.name == record
    ]
    return {
        node.target.id
        for node in found.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def targets(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions that a statement or a call changes."""
    if isinstance(node, ast.Assign | ast.Delete):
        yield from node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.AsyncFor | ast.NamedExpr):
        yield node.target
    elif isinstance(node, ast.withitem) and node.optional_vars:
        yield node.optional_vars
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGING:
        yield node.func.value


def written(target: ast.expr) -> Iterator[str]:
    """The attributes that `target` is, has as parts, or is an element of."""
    if isinstance(target, ast.Tuple | ast.List):
        for part in target.elts:
            yield from written(part)
    elif isinstance(target, ast.Starred | ast.Subscript):
        yield from written(target.value)
    elif isinstance(target, ast.Attribute):
        yield target.attr


@cache
def writers() -> dict[str, set[str]]:
    """The modules of the lifecycle that write an attribute of that name, of whatever object."""
    found: dict[str, set[str]] = {}
    for path in modules("conductor_admin"):
        if path.parent == LIFECYCLE:
            for node in ast.walk(tree(path)):
                for target in targets(node):
                    for name in written(target):
                        found.setdefault(name, set()).add(path.stem)
    return found


@pytest.mark.parametrize("record", WRITERS)
def test_each_part_of_a_worker_set_has_one_writer(record: str) -> None:
    found = writers()
    wrong = {
        f"{record}.{name} is written by {module}"
        for name in fields(record)
        for module in found.get(name, set()) - WRITERS_OF_A_WORKER.get(name, WRITERS[record])
    }
    assert not wrong


def test_a_field_of_a_worker_set_has_a_name_of_its_own() -> None:
    """Only so can a write be told by its name."""
    names = Counter(name for record in WRITERS for name in fields(record) - {"pid", "client"})
    assert not [name for name, count in names.items() if count > 1]


def test_no_other_package_sees_the_state_of_a_worker_set() -> None:
    hidden = tuple(f"conductor_admin.lifecycle.{name}" for name in ("set_state", "use", "loads"))
    hidden += ("conductor_admin.lifecycle.worker_sets.WorkerSetTable",)
    outside = [path for path in modules() if path.parent != LIFECYCLE]
    assert not {f"{path}: {name}" for path in outside for name in imports(path) if name.startswith(hidden)}


def test_the_state_changes_by_the_table_alone() -> None:
    assert writers()["state"] == {"loads"}
    assigned = [node for node in ast.walk(tree(LIFECYCLE / "loads.py")) if isinstance(node, ast.Assign)]
    (change,) = [node for node in assigned if "state" in written(node.targets[0])]
    assert ast.unparse(change.value).startswith("states.state_after(")


def test_the_page_of_the_lifecycle_has_the_transitions_of_the_code() -> None:
    page = (ROOT / "docs/lifecycle.md").read_text(encoding="utf-8")
    section = re.search(r"^## Transitions\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    assert section
    rows = re.findall(r"^\| ([a-z ]+) \| ([A-Z]+) \| ([A-Z]+) \|", section[1], re.MULTILINE)
    shown = {(State(before), Event(event)): State(after) for event, before, after in rows}
    assert len(shown) == len(rows)
    assert shown == dict(TRANSITIONS)
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_an_event_that_cannot_happen_is_a_defect() -> None:
    for state in State:
        for event in Event:
            if (state, event) in TRANSITIONS:
                assert state_after(state, event) is TRANSITIONS[state, event]
            else:
                with pytest.raises(KeyError):
                    state_after(state, event)
