"""Idle times and keep_alive, recent use, and the count of swaps."""

from __future__ import annotations

import math

import pytest

from conductor_admin.memory.usage import HALF_LIFE_S, Idleness, Swaps, Use

LEAVES, STAYS = Idleness(300.0, stays=False), Idleness(300.0, stays=True)


@pytest.mark.parametrize(
    ("idleness", "keep_alive_s", "expires"),
    [
        (LEAVES, None, 1300.0),
        (LEAVES, 20.0, 1020.0),
        (LEAVES, 0.0, 1000.0),
        (LEAVES, -1.0, math.inf),
        (Idleness(math.inf, stays=False), None, math.inf),
        (STAYS, None, math.inf),
        (STAYS, 0.0, math.inf),
    ],
)
def test_idle_time_counts_from_the_end_of_a_request(
    idleness: Idleness, keep_alive_s: float | None, expires: float
) -> None:
    assert idleness.expires(1000.0, keep_alive_s) == expires


def test_a_request_weighs_half_after_a_half_life() -> None:
    use = Use().another(100.0).another(100.0)
    assert use.recent(100.0) == 2.0
    assert use.recent(100.0 + HALF_LIFE_S) == pytest.approx(1.0)
    assert use.recent(50.0) == 2.0


def test_a_shadow_in_order_counts_what_grouping_avoided() -> None:
    swaps = Swaps({"cpu": 10})
    for name in "ABABAB":
        swaps.asked(name, {"cpu": 6})
    swaps.made = 1
    assert swaps.avoided == 4


def test_sets_that_fit_together_avoid_no_swap() -> None:
    swaps = Swaps({"cpu": 12})
    for name in "ABABAB":
        swaps.asked(name, {"cpu": 6})
    assert swaps.avoided == 0


def test_a_set_that_was_idle_is_no_swap() -> None:
    swaps = Swaps({"cpu": 10})
    swaps.asked("A", {"cpu": 6})
    swaps.ended("A")
    swaps.asked("B", {"cpu": 6})
    assert swaps.avoided == 0
