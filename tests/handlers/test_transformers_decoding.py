"""Decoding of one request from logits to a token, compared with transformers' own processors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from handlers.runtimes.base import SamplingPlan
from handlers.runtimes.transformers.decoding import RequestDecoding, draw, nucleus

VOCABULARY = 500
CPU = torch.device("cpu")


def logits(seed: int = 0) -> torch.Tensor:
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


def decoding(prompt: list[int], **plan: Any) -> RequestDecoding:
    return RequestDecoding(prompt, SamplingPlan(max_tokens=8, **plan), VOCABULARY, CPU)


def test_a_greedy_request_without_penalties_leaves_the_row_alone() -> None:
    row = logits()
    decoding([1, 2]).choose(row)
    assert torch.equal(row, logits())


def test_repetition_penalty_equals_transformers_own_over_prompt_and_answer() -> None:
    prompt, answer = [3, 4, 4, 9], [20, 21]
    request = decoding(prompt, repetition_penalty=1.7)
    request.advance(answer)
    row = logits()
    request.choose(row)
    ids = torch.tensor([prompt + answer])
    expected = RepetitionPenaltyLogitsProcessor(1.7)(ids, logits()[None].clone())[0]
    assert torch.equal(row, expected)


def test_presence_and_frequency_penalties_count_the_answer_only() -> None:
    request = decoding([5], presence_penalty=0.5, frequency_penalty=0.25)
    request.advance([7, 7])
    request.advance([7, 7, 8])
    row = logits()
    request.choose(row)
    expected = logits()
    expected[7] -= 0.5 + 2 * 0.25
    expected[8] -= 0.5 + 0.25
    torch.testing.assert_close(row, expected)


def test_logit_bias_moves_the_maximum() -> None:
    row = logits()
    decoding([1], logit_bias={42: 100.0}).choose(row)
    assert int(row.argmax()) == 42


@pytest.mark.parametrize(("top_k", "top_p"), [(5, 1.0), (None, 0.5), (None, 0.999), (40, 0.6), (1, 0.01)])
def test_candidates_equal_those_of_transformers_own_warpers(top_k: int | None, top_p: float) -> None:
    row = TemperatureLogitsWarper(0.7)(torch.empty(0), logits()[None])
    if top_k is not None:
        row = TopKLogitsWarper(top_k)(torch.empty(0), row)
    if top_p < 1.0:
        row = TopPLogitsWarper(top_p)(torch.empty(0), row)
    expected = set(torch.nonzero(row[0].isfinite()).view(-1).tolist())
    _, indices = nucleus(logits() / 0.7, top_k, top_p)
    assert set(indices.tolist()) == expected


def test_a_nucleus_wider_than_the_quick_selection_is_still_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = nucleus(logits(), None, 0.95)[1].tolist()
    monkeypatch.setattr("handlers.runtimes.transformers.decoding.NUCLEUS_WIDTH", 2)
    assert nucleus(logits(), None, 0.95)[1].tolist() == exact


def test_draws_follow_the_softmax() -> None:
    row = torch.log(torch.tensor([0.6, 0.3, 0.1]))
    plan = SamplingPlan(max_tokens=1, temperature=1.0)
    generator = torch.Generator().manual_seed(1)
    counts = torch.bincount(torch.stack([draw(row, plan, generator) for _ in range(4000)]), minlength=3)
    torch.testing.assert_close(counts / 4000, row.exp(), atol=0.03, rtol=0)


def test_equal_seeds_draw_equally_and_no_seed_draws_afresh() -> None:
    def drawn(seed: int | None) -> list[int]:
        request = decoding([1], temperature=1.5, seed=seed)
        rows = [logits(i) for i in range(30)]
        for row in rows:
            request.choose(row)
        return [int(row.argmax()) for row in rows]

    assert drawn(5) == drawn(5) != drawn(6)
    assert drawn(None) != drawn(None)


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e-6, 2.0])
@pytest.mark.parametrize("top_p", [1e-9, 1.0])
def test_no_extreme_value_raises_or_leaves_the_vocabulary(temperature: float, top_p: float) -> None:
    row = logits()
    row[:10] = -torch.inf
    decoding([1], temperature=temperature, top_p=top_p, top_k=10**6).choose(row)
    assert 10 <= int(row.argmax()) < VOCABULARY


def test_top_logprobs_are_those_of_the_model_before_any_penalty() -> None:
    request = decoding([1], top_logprobs=3, logit_bias={9: 100.0})
    request.choose(logits())
    expected = logits().log_softmax(dim=-1)
    assert request.logprobs == [pytest.approx(float(expected[9]))]
    assert list(request.top_logprobs[0]) == expected.topk(3).indices.tolist()
