"""The order of a bench's turns, and its statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from conductor.bench.plan import SIDES, BenchPlan, prompts
from conductor.bench.report import Sample, Stream, compare, doubts, measure, percentile, to_json
from conductor.bench.runner import measure as run_turns
from conductor.bench.runner import sample
from conductor.errors import CommandError


def evenly(tokens: int, per_s: float, first: float = 0.1, prompt_tokens: int = 60) -> Stream:
    """A stream whose tokens come one by one."""
    return Stream(0.0, tuple(first + n / per_s for n in range(tokens)), prompt_tokens, tokens)


def test_every_round_turns_the_order_of_the_sides_round() -> None:
    turns = list(BenchPlan(streams=(1, 8), rounds=3, tokens=128).turns())
    first, second = list(SIDES), list(reversed(SIDES))
    counted = [turn for turn in turns if not turn.is_warm_up]
    assert [turn.side for turn in counted] == [*first, *second, *first] * 2
    assert [turn.streams for turn in turns] == [1] * 8 + [8] * 8
    assert [turn.side for turn in turns if turn.is_warm_up] == first * 2


def test_both_sides_of_a_round_get_the_same_prompts() -> None:
    turns = [turn for turn in BenchPlan((8,), rounds=2).turns() if turn.round == 1]
    assert turns[0].prompts == turns[1].prompts
    assert len(turns[0].prompts) == 8


def test_no_prompt_comes_twice() -> None:
    every = [text for streams in (1, 8, 32) for number in range(-1, 7) for text in prompts(number, streams)]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([5.0], 0.99, 5.0), ([3.0, 1.0, 2.0], 0.5, 2.0), ([0.0, 10.0], 0.25, 2.5), ([1.0, 2.0], 1.0, 2.0)],
)
def test_percentiles_lie_between_the_ranks(values: Sequence[float], share: float, expected: float) -> None:
    assert percentile(values, share) == pytest.approx(expected)


def test_a_percentile_of_nothing_is_no_number() -> None:
    assert math.isnan(percentile([], 0.5))


def test_the_figures_of_a_turn() -> None:
    figures = measure(Sample((evenly(11, 10.0), evenly(11, 10.0)), {"worker": 0.044}))
    assert figures["tokens_per_s"] == pytest.approx(22 / 1.1)
    assert figures["ttft_p50_ms"] == pytest.approx(100)
    assert figures["gap_p50_ms"] == pytest.approx(100)
    assert figures["cpu_worker"] == pytest.approx(2.0)


def test_a_turn_without_tokens_has_figures_without_numbers() -> None:
    assert math.isnan(measure(Sample((Stream(0.0, (), 5, 0),)))["tokens_per_s"])


def test_the_ratio_is_taken_round_by_round() -> None:
    ours = [Sample((evenly(11, rate, first=0.0),)) for rate in (9.0, 18.0, 40.0)]
    theirs = [Sample((evenly(11, rate, first=0.0),)) for rate in (10.0, 20.0, 20.0)]
    one = compare(1, {"gateway": ours, "direct": theirs})
    assert (one.ratio.median, one.ratio.low, one.ratio.high) == pytest.approx((0.9, 0.9, 2.0))
    assert one.rounds == 3


def test_what_the_gateway_adds_to_the_first_token() -> None:
    ours, theirs = Sample((evenly(5, 10.0, first=0.105),)), Sample((evenly(5, 10.0, first=0.1),))
    assert compare(1, {"gateway": [ours], "direct": [theirs]}).added_ttft_ms == pytest.approx(5)


def test_equal_work_raises_no_doubt() -> None:
    same = Sample((evenly(5, 10.0),))
    assert doubts([compare(1, {"gateway": [same], "direct": [same]})]) == []


def test_unequal_work_is_told() -> None:
    ours, theirs = Sample((evenly(5, 10.0),)), Sample((evenly(6, 10.0, prompt_tokens=61),))
    found = doubts([compare(8, {"gateway": [ours], "direct": [theirs]})])
    assert found == [
        "at 8 streams the sides produced different numbers of tokens: gateway 5, direct 6",
        "at 8 streams the sides counted different prompt tokens",
    ]


def test_counts_that_even_out_over_streams_are_not_equal_work() -> None:
    ours, theirs = (
        Sample((evenly(5, 10.0), evenly(6, 10.0))),
        Sample((evenly(6, 10.0), evenly(5, 10.0))),
    )
    one = compare(2, {"gateway": [ours], "direct": [theirs]})
    assert not one.tokens_equal


def test_json_has_null_where_there_is_no_number() -> None:
    single = Sample((evenly(1, 10.0),))
    value = to_json(compare(1, {"gateway": [single], "direct": [single]}))
    assert value["gateway"]["gap_p50_ms"] == {"median": None, "low": None, "high": None}


def test_warm_up_turns_are_not_counted() -> None:
    seen = []

    def take(turn: object) -> Sample:
        seen.append(turn)
        return Sample((evenly(5, 10.0),))

    (one,) = run_turns(BenchPlan((1,), rounds=2), take, lambda turn: None)
    assert (len(seen), one.rounds) == (6, 2)


def test_a_failed_stream_ends_the_bench_with_its_message() -> None:
    with pytest.raises(CommandError, match="the worker died"):
        sample([{"error": "the worker died"}], {})
