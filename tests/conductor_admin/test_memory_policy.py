"""The policy of memory as a table of cases, and its choice of evictions against trying every subset."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_admin.memory.policy import (
    EXACT,
    GROUP_S,
    Admit,
    Decision,
    Demand,
    Evict,
    Hold,
    Holding,
    Refuse,
    Wait,
    cheapest,
    overrun,
    positive_difference,
    schedule,
    total,
)
from conductor_core.catalogue import StayLoaded

BUDGET = {"cpu": 10}


def holding(name: str, size: int, hold: Hold = Hold.IDLE, **more: Any) -> Holding:
    return Holding(name, {"cpu": size}, hold, **more)


def decide(need: int, *holdings: Holding, waited_s: float = 0.0, budget: dict[str, int] = BUDGET) -> Decision:
    room = positive_difference(budget, total(h.memory for h in holdings))
    return schedule([Demand("new", {"cpu": need}, waited_s)], holdings, room, budget)["new"]


RESIDENT = holding("resident", 6, stay=StayLoaded.TRUE)
YIELD = holding("yield", 6, stay=StayLoaded.YIELD)


@pytest.mark.parametrize(
    ("need", "holdings", "decision"),
    [
        pytest.param(10, [], Admit(), id="room"),
        pytest.param(4, [RESIDENT], Admit(), id="room-beside-a-resident"),
        pytest.param(11, [], Refuse("cpu", 11, 10, 0), id="larger-than-the-budget"),
        pytest.param(5, [RESIDENT], Refuse("cpu", 5, 4, 0), id="larger-than-what-residents-leave"),
        pytest.param(
            9, [RESIDENT, holding("a", 2)], Refuse("cpu", 9, 2, 2), id="not-even-after-every-eviction"
        ),
        pytest.param(5, [holding("a", 6)], Evict(("a",)), id="idle"),
        pytest.param(5, [holding("a", 6, Hold.BUSY)], Wait(), id="busy"),
        pytest.param(5, [holding("a", 6, Hold.LOADING)], Wait(), id="loading"),
        pytest.param(5, [holding("a", 6, Hold.LEAVING)], Wait(), id="memory-on-its-way"),
        pytest.param(5, [holding("a", 6, Hold.LEAVING), holding("b", 4)], Wait(), id="enough-on-its-way"),
        pytest.param(5, [YIELD], Evict(("yield",)), id="yield"),
        pytest.param(
            4, [YIELD, holding("a", 4, reload_s=900)], Evict(("a",)), id="yield-only-where-nothing-else"
        ),
        pytest.param(5, [holding("chat", 6), holding("embed", 1)], Evict(("chat",)), id="frees-enough"),
        pytest.param(
            2,
            [holding("a", 5, reload_s=60), holding("b", 5, reload_s=3)],
            Evict(("b",)),
            id="quicker-to-reload",
        ),
        pytest.param(
            2,
            [holding("a", 5, reload_s=60), holding("b", 5, reload_s=30, recent_use=9)],
            Evict(("a",)),
            id="recent-use-weighs",
        ),
        pytest.param(
            2,
            [holding("a", 5, reload_s=18), holding("b", 5, reload_s=10, recent_use=1)],
            Evict(("a",)),
            id="one-recent-request-weighs-as-much-as-the-reload",
        ),
        pytest.param(
            2,
            [holding("grown", 5, reload_s=60, outgrown=True), holding("b", 5, reload_s=3)],
            Evict(("grown",)),
            id="outgrown-first",
        ),
        pytest.param(
            4,
            [holding("a", 3, reload_s=2), holding("b", 2, reload_s=2), holding("big", 5, reload_s=9)],
            Evict(("a", "b")),
            id="two-cheap-ones-rather-than-a-dear-one",
        ),
    ],
)
def test_a_demand_gets_the_decision_of_its_case(
    need: int, holdings: list[Holding], decision: Decision
) -> None:
    assert decide(need, *holdings) == decision


@pytest.mark.parametrize("hold", [Hold.LOADING, Hold.LEAVING])
def test_patience_never_ends_a_set_that_is_loading_or_leaving(hold: Hold) -> None:
    assert decide(9, holding("a", 6, hold), holding("b", 4, Hold.LOADING), waited_s=1e6) == Wait()


def test_a_busy_set_is_drained_once_the_bound_on_waiting_is_reached() -> None:
    busy = holding("a", 6, Hold.BUSY)
    assert decide(5, busy, waited_s=GROUP_S - 0.1) == Wait()
    assert decide(5, busy, waited_s=GROUP_S) == Evict(("a",))


def test_a_busy_resident_is_not_drained_however_long_one_waits() -> None:
    assert decide(5, RESIDENT, holding("a", 4, Hold.LOADING), waited_s=1e6) == Refuse("cpu", 5, 0, 4)


def test_two_demands_do_not_count_on_the_memory_of_one_victim() -> None:
    demands = [Demand("b", {"cpu": 6}), Demand("c", {"cpu": 6})]
    decisions = schedule(demands, [holding("a", 8)], {"cpu": 2}, BUDGET)
    assert decisions == {"b": Evict(("a",)), "c": Wait()}


def test_a_victim_that_frees_enough_for_two_serves_both() -> None:
    demands = [Demand("b", {"cpu": 2}), Demand("c", {"cpu": 6})]
    decisions = schedule(demands, [holding("a", 8), holding("d", 2)], {"cpu": 0}, BUDGET)
    assert decisions == {"b": Evict(("d",)), "c": Evict(("a",))}
    decisions = schedule(demands, [holding("a", 9), holding("d", 1)], {"cpu": 0}, BUDGET)
    assert decisions == {"b": Evict(("a",)), "c": Wait()}


def test_a_younger_demand_takes_room_that_the_older_one_gets_elsewhere() -> None:
    demands = [Demand("b", {"cpu": 6}), Demand("c", {"cpu": 2})]
    decisions = schedule(demands, [holding("a", 8, Hold.BUSY)], {"cpu": 2}, BUDGET)
    assert decisions == {"b": Wait(), "c": Admit()}


def test_a_younger_demand_leaves_the_room_that_the_older_one_needs() -> None:
    demands = [Demand("b", {"cpu": 6}), Demand("c", {"cpu": 2})]
    decisions = schedule(demands, [holding("a", 5, Hold.BUSY)], {"cpu": 5}, BUDGET)
    assert decisions == {"b": Wait(), "c": Admit()}
    tight = [holding("a", 5, Hold.BUSY), holding("r", 3, stay=StayLoaded.TRUE)]
    decisions = schedule(demands, tight, {"cpu": 2}, BUDGET)
    assert decisions == {"b": Wait(), "c": Wait()}


def test_who_may_evict_nothing_waits_for_room_and_holds_up_nobody() -> None:
    idle, meek = holding("a", 8), Demand("b", {"cpu": 5}, 100.0, may_evict=False)
    assert schedule([meek], [idle], {"cpu": 2}, BUDGET) == {"b": Wait()}
    assert schedule([meek], [], {"cpu": 10}, BUDGET) == {"b": Admit()}
    after = [meek, Demand("c", {"cpu": 2}), Demand("d", {"cpu": 6})]
    assert schedule(after, [idle], {"cpu": 2}, BUDGET) == {"b": Wait(), "c": Admit(), "d": Evict(("a",))}


def test_each_device_has_a_budget_of_its_own() -> None:
    held = [Holding("a", {"cuda:0": 8, "cpu": 2}, Hold.IDLE), holding("b", 8)]
    budget, room = {"cpu": 10, "cuda:0": 10}, {"cpu": 0, "cuda:0": 2}
    demands = [Demand("c", {"cuda:0": 6, "cpu": 2})]
    assert schedule(demands, held, room, budget)["c"] == Evict(("a",))
    assert schedule([Demand("d", {"cuda:1": 1})], held, room, budget)["d"] == Refuse("cuda:1", 1, 0, 0)


def test_what_grew_beyond_the_budget_is_unloaded_when_idle() -> None:
    grown = holding("grown", 7, outgrown=True, reload_s=60)
    assert overrun([grown, holding("b", 4)], BUDGET) == ("grown",)
    assert overrun([grown, holding("b", 3)], BUDGET) == ()
    assert overrun([grown, holding("b", 4, Hold.LEAVING)], BUDGET) == ()
    assert overrun([holding("grown", 7, Hold.BUSY, outgrown=True), RESIDENT], BUDGET) == ()


holdings_of = st.lists(
    st.builds(
        lambda size, reload_s, use, stay: (size, float(reload_s), float(use), stay),
        st.integers(1, 20),
        st.integers(1, 50),
        st.integers(0, 5),
        st.sampled_from([StayLoaded.FALSE, StayLoaded.YIELD]),
    ),
    max_size=7,
)


def cost(chosen: tuple[Holding, ...] | list[Holding]) -> tuple[int, float]:
    yields = sum(h.stay is StayLoaded.YIELD for h in chosen)
    return yields, sum(h.reload_s * (1 + h.recent_use) for h in chosen)


@given(holdings_of, st.integers(1, 60))
def test_no_subset_that_frees_enough_is_cheaper(
    sizes: list[tuple[int, float, float, StayLoaded]], need: int
) -> None:
    able = [
        holding(f"s{i}", size, reload_s=reload_s, recent_use=use, stay=stay)
        for i, (size, reload_s, use, stay) in enumerate(sizes)
    ]
    chosen = cheapest(able, {"cpu": need})
    subsets = [s for n in range(len(able) + 1) for s in itertools.combinations(able, n)]
    enough = [s for s in subsets if sum(h.memory["cpu"] for h in s) >= need]
    assert bool(chosen) == bool(enough)
    if enough:
        assert sum(h.memory["cpu"] for h in chosen) >= need
        assert cost(chosen) == pytest.approx(min(cost(s) for s in enough))


def test_among_many_sets_none_is_evicted_that_could_stay() -> None:
    able = [holding(f"s{i}", 1 + i % 5, reload_s=float(i)) for i in range(EXACT * 4)]
    chosen = cheapest(able, {"cpu": 40})
    freed = sum(h.memory["cpu"] for h in chosen)
    assert freed >= 40
    assert all(freed - h.memory["cpu"] < 40 for h in chosen)


def test_among_many_sets_those_stay_that_cost_most() -> None:
    able = [holding(f"s{i}", 1, reload_s=float(cost)) for i, cost in enumerate([5, 1, *range(9, 9 + EXACT)])]
    assert [h.name for h in cheapest(able, {"cpu": 1})] == ["s1"]
    assert [h.name for h in cheapest(able, {"cpu": 2})] == ["s0", "s1"]


def test_the_choice_is_exact_among_as_many_sets_as_the_bound_whatever_other_devices_hold() -> None:
    """Dropping the most expensive set first would keep the two that cost more together."""
    able = [holding("one", 5, reload_s=5), holding("two", 3, reload_s=3), holding("three", 3, reload_s=3)]
    others = [Holding(f"o{i}", {"cuda:0": 1}, Hold.IDLE) for i in range(EXACT)]
    none = [Holding(f"n{i}", {"cpu": 0}, Hold.IDLE) for i in range(EXACT)]
    dear = [holding(f"d{i}", 1, reload_s=50) for i in range(EXACT - len(able))]
    for more in (others, none, dear):
        assert [h.name for h in cheapest([*able, *more], {"cpu": 5})] == ["one"]
