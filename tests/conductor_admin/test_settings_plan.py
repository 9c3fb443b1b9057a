"""Plans of another SETTINGS.md: changed rows and sets, and whether they fit."""

from __future__ import annotations

from typing import Any

import pytest

from conductor_admin.memory.accounting import MemoryFigures
from conductor_admin.settings.plan import Plan, plan_change, plan_start, plan_to_json
from conductor_core.catalogue import Catalogue
from conductor_core.settings.parser import parse_settings

HEAD = """## Conversational Persona
{persona}

|Category/Area|Context|Best Open Source Model|VRAM/RAM Requirements|Technical Model Name|Stay Loaded|Precision
|-|-|-|-|-|-|-
"""
CHAT = "| Chat | 1024 | c | ~4GB | `models/chat.gguf` | true | Q4_1 |\n"
LEGAL = "| Legal | 1024 | c | ~4GB | `models/chat.gguf` | false | Q4_1 |\n"
CODE = "| Code | 1024 | d | ~5GB | `models/code.gguf` | false | Q4_1 |\n"
BIG = "| Big | 1024 | b | ~8GB | `models/big.gguf` | false | Q4_1 |\n"


def catalogue(*rows: str, persona: str = "Kind.", parameters: str = "") -> Catalogue:
    return parse_settings(HEAD.format(persona=persona) + "".join(rows) + parameters)


def change(old: Catalogue, new: Catalogue) -> Plan:
    return plan_change(old, new)


def described(old: Catalogue, new: Catalogue, budget: int = 20) -> dict[str, Any]:
    plan = change(old, new)
    figures = {one.name: MemoryFigures.of(one, None, {}, {}) for one in (*old.sets, *new.sets)}
    before = {name: known.admission for name, known in figures.items()}
    return plan_to_json(plan, figures, before, {"cpu": budget * 10**9})


@pytest.mark.parametrize(
    ("new", "rows"),
    [
        (catalogue(CHAT, CODE), {"chat": "untouched", "code": "untouched"}),
        (catalogue(CHAT), {"chat": "untouched", "code": "removed"}),
        (catalogue(CODE, CHAT, BIG), {"chat": "untouched", "code": "untouched", "big": "added"}),
        (
            catalogue(CHAT.replace("chat.gguf", "other.gguf"), CODE),
            {"chat": "rebuilt", "code": "untouched"},
        ),
        (catalogue(CHAT.replace("1024", "2048"), CODE), {"chat": "rebuilt", "code": "untouched"}),
        (catalogue(CHAT.replace("true", "false"), CODE), {"chat": "changed", "code": "untouched"}),
        (catalogue(CHAT, CODE, persona="Rude."), {"chat": "changed", "code": "changed"}),
        (
            catalogue(CHAT, CODE, parameters="\n## Engine Parameters\n|Category|top_p|\n|-|-|\n|Code|0.5|\n"),
            {"chat": "untouched", "code": "changed"},
        ),
    ],
)
def test_each_row_is_told_what_happens_to_it(new: Catalogue, rows: dict[str, str]) -> None:
    plan = change(catalogue(CHAT, CODE), new)
    assert plan.rows == rows
    assert plan.changes_nothing is (set(rows.values()) == {"untouched"})


def test_a_set_goes_on_under_another_name_when_its_first_row_goes() -> None:
    plan = change(catalogue(CHAT, LEGAL), catalogue(LEGAL))
    ((old, new),) = plan.kept
    assert (old.name, new.name) == ("chat", "legal")
    assert not [*plan.added, *plan.removed, *plan.rebuilt]


def test_a_set_whose_weights_change_is_rebuilt_and_one_of_a_new_name_is_added() -> None:
    plan = change(catalogue(CHAT, CODE), catalogue(CHAT.replace("chat.gguf", "x.gguf"), BIG))
    assert [pair[1].name for pair in plan.rebuilt] == ["chat"]
    assert [one.name for one in plan.added] == ["big"]
    assert [one.name for one in plan.removed] == ["code"]


def test_the_plan_says_whether_the_resident_sets_fit() -> None:
    old, new = catalogue(CHAT), catalogue(CHAT, BIG.replace("false", "true"))
    assert described(old, new, 12)["resident_fits"] is True
    assert described(old, new, 11)["resident_fits"] is False


def test_the_plan_names_pairs_that_are_never_loaded_together() -> None:
    new = catalogue(CHAT, CODE, BIG)
    assert described(new, new, 20)["never_together"] == []
    assert described(new, new, 16)["never_together"] == [["code", "big"]]
    assert described(new, new, 10)["never_together"] == []


def test_the_plan_names_what_is_refused_whenever_it_is_asked_for() -> None:
    new = catalogue(CHAT, CODE, BIG)
    assert described(new, new, 16)["never_fits"] == []
    (refused,) = described(new, new, 10)["never_fits"]
    assert (refused["set"], refused["device"]) == ("big", "cpu")
    assert refused["needed"] > refused["room"] > 0


def test_the_plan_of_a_first_start_adds_everything() -> None:
    plan = plan_start(catalogue(CHAT, CODE))
    assert plan.rows == {"chat": "added", "code": "added"}
    assert [one.name for one in plan.added] == ["chat", "code"]


def test_the_plan_says_which_set_ends_before_its_successor_is_loaded() -> None:
    old, new = catalogue(CHAT), catalogue(CHAT.replace("chat.gguf", "x.gguf"))
    assert described(old, new, 8)["drains_first"] == []
    assert described(old, new, 7)["drains_first"] == ["chat"]


def test_the_memory_of_each_set_is_told_and_a_cell_that_measuring_contradicts_is_corrected() -> None:
    table = catalogue(CHAT, LEGAL, CODE)
    learned = {"chat": {"cpu": 2 * 10**9}, "code": {"cpu": 5 * 10**9}}
    figures = {
        one.name: MemoryFigures.of(one, 10**9, {}, learned[one.name], settled=True) for one in table.sets
    }
    told = plan_to_json(plan_start(table), figures, {}, {"cpu": 20 * 10**9})
    assert told["sets"][0] == {
        "set": "chat",
        "device": "cpu",
        "declared": 4 * 10**9,
        "estimated": 10**9,
        "peak": 2 * 10**9,
        "needed": 2 * 10**9,
    }
    cells = {one["category"]: one["cell"] for one in told["corrections"]}
    assert cells == {"chat": "~2GB (Q4_1)", "legal": "~2GB (Q4_1)"}
