"""Admission to the KV cache of openvino, and the order in which prompts are read."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from handlers.runtimes.base import RuntimeConfig, SamplingPlan
from handlers.runtimes.cache_places import MOST_OVERTAKEN, Places
from handlers.runtimes.openvino.config import (
    BLOCK_TOKENS,
    OVERHEAD_BYTES,
    STEP_TOKENS,
    ModelShape,
    cache_blocks,
    reserve_blocks,
)
from handlers.runtimes.openvino.job import OpenVinoJob
from handlers.runtimes.openvino.reading import OLDEST_SHARE, KnownPrefixes, pieces

PLACES = Places(blocks=30, reserve=8)


@dataclass(eq=False)
class One:
    """A request of a number of blocks that ends at `most`."""

    number: int
    blocks: int
    most: int = 0
    overtaken: int = 0


def test_what_fits_gets_a_place_and_what_was_left_still_counts() -> None:
    first, second = One(1, 2), One(2, 2)
    assert PLACES.admit([first, second], [One(0, 26)], leaving=0) == [first, second]
    assert PLACES.admit([first, second], [], leaving=27) == [first]


def test_long_ones_leave_the_reserve_to_short_ones() -> None:
    long, short = One(2, 10), One(3, 2)
    assert PLACES.admit([long, short], [One(1, 15)], leaving=0) == [short]
    assert PLACES.admit([One(1, 30)], [], leaving=0), "one alone may be as long as the cache"


def test_a_long_one_is_overtaken_so_often_and_no_more() -> None:
    long, held = One(1, 20), [One(0, 20)]
    for number in range(MOST_OVERTAKEN):
        assert len(PLACES.admit([long, One(number + 2, 1)], held, leaving=0)) == 1
    assert PLACES.admit([long, One(100, 1)], held, leaving=0) == []
    assert PLACES.admit([long, One(100, 1)], [], leaving=0)[0] is long


def test_the_youngest_goes_back_and_the_oldest_never() -> None:
    held = [One(1, 14), One(2, 10), One(3, 8)]
    assert PLACES.put_back(held, []) == [held[2]]
    assert PLACES.put_back([One(1, 40)], [One(2, 1)]) == []


def test_long_ones_that_have_grown_make_room_for_a_short_one() -> None:
    held = [One(1, 14), One(2, 15)]
    assert PLACES.put_back(held, []) == []
    assert PLACES.put_back(held, [One(3, 2)]) == [held[1]]
    assert PLACES.put_back(held, [One(3, 1)]) == []


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_everybody_ends_and_the_cache_is_never_exceeded(seed: int) -> None:
    chance = random.Random(seed)
    coming = [One(n, chance.randint(2, 20)) for n in range(40)]
    for one in coming:
        one.most = min(30, one.blocks + chance.randint(0, 20))
    waiting: list[One] = []
    held: list[One] = []
    for _ in range(5000):
        if coming:
            waiting.append(coming.pop(0))
        back = PLACES.put_back(held, waiting)
        held = [one for one in held if one not in back]
        waiting += back
        let_in = PLACES.admit(waiting, held, sum(one.blocks for one in back))
        waiting = [one for one in waiting if one not in let_in]
        held += let_in
        assert sum(one.blocks for one in held) <= PLACES.blocks
        for one in held:
            one.blocks += chance.random() < 0.5
        held = [one for one in held if one.blocks <= one.most]
        if not (coming or held or waiting):
            return
    raise AssertionError(f"{len(waiting)} wait, {len(held)} are held")


def reading(number: int, tokens: int, *, echo: bool = False) -> OpenVinoJob:
    return OpenVinoJob(number, list(range(tokens)), SamplingPlan(max_tokens=1), frozenset(), echo)


def test_short_prompts_are_read_before_the_rest_of_a_long_one() -> None:
    long, short, shorter = reading(1, 7000), reading(2, 40), reading(3, 20)
    given = dict(pieces([long, short, shorter], generating=10))
    assert given == {shorter: 20, short: 40, long: 32}
    assert sum(given.values()) <= STEP_TOKENS - 10


def test_a_flood_of_short_prompts_leaves_the_oldest_its_share() -> None:
    long = reading(1, 7000)
    given = dict(pieces([long, *(reading(n, 90) for n in range(2, 12))], generating=0))
    assert given[long] == OLDEST_SHARE
    assert sum(given.values()) <= STEP_TOKENS


def test_a_long_prompt_alone_is_read_a_step_at_a_time_and_in_whole_blocks() -> None:
    long = reading(1, 7000)
    assert pieces([long], generating=0) == [(long, STEP_TOKENS)]
    assert pieces([long], generating=7) == [(long, 96)]
    assert pieces([long], generating=STEP_TOKENS) == [(long, BLOCK_TOKENS)]
    long.read = 6900
    assert pieces([long], generating=0) == [(long, 100)]


def test_an_echo_is_read_as_a_whole() -> None:
    echo = reading(1, 1000, echo=True)
    assert pieces([echo], generating=0) == [(echo, 1000)]
    assert pieces([], generating=3) == []


def test_known_beginnings_are_told_in_whole_blocks_and_forgotten_in_order() -> None:
    known = KnownPrefixes(blocks=4)
    known.keep(list(range(70)))
    assert known.known(list(range(200))) == 64
    assert known.known([*range(40), 5, 5, 5]) == 32
    assert known.known([1, *range(1, 70)]) == 0
    known.keep(list(range(1000, 1000 + 96)))
    assert known.known(list(range(1000, 1096))) == 96
    assert known.known(list(range(200))) == 0


SHAPE = ModelShape(8192, 49152, 90_000_000, frozenset({2}))
TOKEN_BYTES = 12_960


def blocks(memory: int | None, context: int = 8192) -> int:
    config = RuntimeConfig(Path("m"), "Q4_1", memory=memory, kv_token_bytes=TOKEN_BYTES)
    return cache_blocks(config, SHAPE, context)


def test_the_cache_takes_what_the_memory_of_the_worker_leaves() -> None:
    room = 10**9 - SHAPE.weights_bytes - OVERHEAD_BYTES
    assert blocks(10**9) == room // (TOKEN_BYTES * BLOCK_TOKENS)
    assert blocks(10**9) * BLOCK_TOKENS > 4 * 8192


@pytest.mark.parametrize("context", [100, 2048, 8192, 131_072])
def test_the_smallest_cache_holds_the_longest_request_beside_the_reserve(context: int) -> None:
    longest = OpenVinoJob(1, [0] * (context - 1), SamplingPlan(max_tokens=1), frozenset())
    places = Places(blocks(1, context), reserve_blocks(context))
    assert places.admit([longest], [], leaving=0) == [longest]
    assert places.blocks - places.reserve >= longest.blocks
    assert places.reserve * BLOCK_TOKENS <= 4096
