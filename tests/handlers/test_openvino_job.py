"""A request of openvino-genai that restarts: its reader gets every token once."""

from __future__ import annotations

from typing import Any

import pytest

from handlers.runtimes.base import SamplingPlan, Step
from handlers.runtimes.openvino.job import Failed, OpenVinoJob

EOS = 2
PROMPT = [10, 11, 12]


class Handle:
    """A handle of the library that records its cancel."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def job(**plan: Any) -> OpenVinoJob:
    made = OpenVinoJob(1, PROMPT, SamplingPlan(**{"max_tokens": 10, **plan}), frozenset({EOS}))
    made.handle = Handle()
    return made


def after(sent: list[int], **plan: Any) -> OpenVinoJob:
    """A request that was dropped after the tokens `sent`."""
    made = job(**plan)
    assert made.take(sent, [-1.0] * len(sent), None) == Step(sent, None, [-1.0] * len(sent))
    made.begin_again()
    made.handle = Handle()
    return made


def test_what_was_said_becomes_part_of_the_prompt() -> None:
    again = after([20, 21], repetition_penalty=1.5)
    assert again.ids == [*PROMPT, 20, 21]
    assert again.config.max_new_tokens == 8
    assert again.config.repetition_penalty == 1.5
    assert again.take([22, EOS], [-0.5, -0.1], "stop") == Step([22], "stop", [-0.5])
    assert again.sent == [20, 21, 22]


def test_an_unseeded_answer_goes_on_with_other_draws() -> None:
    first = job(temperature=1.0)
    seed = first.config.rng_seed
    first.take([20], [-1.0], None)
    first.begin_again()
    assert first.ids == [*PROMPT, 20]
    assert first.config.rng_seed != seed


@pytest.mark.parametrize(
    "state",
    [
        pytest.param({"seed": 7, "temperature": 1.0}, id="seed"),
        pytest.param({"presence_penalty": 1.0}, id="presence"),
        pytest.param({"frequency_penalty": 1.0, "temperature": 1.0}, id="frequency"),
        pytest.param({"json_schema": {"type": "object"}}, id="schema"),
    ],
)
def test_an_answer_with_a_state_is_made_again_and_held_back(state: dict[str, Any]) -> None:
    original = job(**state).config
    again = after([20, 21, 22], **state)
    assert list(again.ids) == PROMPT
    assert again.config.max_new_tokens == 10
    if "seed" in state:
        assert again.config.rng_seed == original.rng_seed == 7
    else:
        # Drawn once and kept.
        assert again.config.rng_seed == again.config.rng_seed
    assert again.take([20], [-1.0], None) is None
    assert again.take([21, 22, 23], [-1.0, -1.0, -0.25], None) == Step([23], None, [-0.25])
    assert again.take([24], [-0.5], "length") == Step([24], "length", [-0.5])
    assert again.sent == [20, 21, 22, 23, 24]


def test_a_repetition_that_departs_goes_on_from_what_was_said() -> None:
    again = after([20, 21, 22], seed=7, temperature=1.0)
    handle = again.handle
    assert again.take([20, 31], [-1.0, -1.0], None) is None
    assert handle.cancelled
    assert again.handle is None
    assert again.ids == [*PROMPT, 20, 21, 22]
    assert again.config.rng_seed != 7
    assert again.take([23], [-1.0], None) == Step([23], None, [-1.0])


def test_a_repetition_that_ends_too_early_has_departed() -> None:
    again = after([20, 21, 22], presence_penalty=1.0)
    assert again.take([20, EOS], [-1.0, -1.0], "stop") is None
    assert again.ids == [*PROMPT, 20, 21, 22]


def test_a_schema_that_cannot_be_made_again_fails_with_a_wait() -> None:
    failed = after([20, 21], json_schema={"type": "object"}).take([30], [-1.0], None)
    assert isinstance(failed, Failed)
    assert (failed.error.status, failed.error.code) == (503, "kv_cache_full")
    assert failed.error.retry_after_s


def test_one_that_said_nothing_begins_as_it_was() -> None:
    first = job(seed=7, temperature=1.0, json_schema={"type": "object"})
    first.begin_again()
    assert list(first.ids) == PROMPT
    assert first.take([20], [-1.0], None) == Step([20], None, [-1.0])


def test_its_blocks_grow_with_what_it_says() -> None:
    grown = job()
    assert grown.blocks == 2
    grown.take(list(range(100, 140)), [-1.0] * 40, None)
    assert grown.blocks == 3
