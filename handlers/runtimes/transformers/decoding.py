"""Decoding of one request: a row of logits to a token, with torch tensors only.

The order is that of transformers' `generate`: bias, repetition, presence and frequency penalties, schema
mask, temperature, top_k, top_p. No value of a `SamplingPlan` makes this code raise, because an exception in
the generation thread would end every request of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from handlers.runtimes.base import SamplingPlan
from handlers.runtimes.transformers.schema import SchemaMask
from handlers.runtimes.transformers.score import likeliest

# Enough for nearly every nucleus; sorting 49,152 logits costs 3 ms, this selection 0.3 ms.
NUCLEUS_WIDTH = 1024
TINY = 1e-20


class RequestDecoding:
    """Decoding state of one request: its plan, its tokens so far, its random generator and its schema."""

    def __init__(
        self,
        prompt_ids: Sequence[int],
        plan: SamplingPlan,
        vocabulary: int,
        device: torch.device,
        mask: SchemaMask | None = None,
    ) -> None:
        self.plan = plan
        self.mask = mask
        self.logprobs: list[float] = []
        self.top_logprobs: list[dict[int, float]] = []
        self._known = 0
        self._device = device
        self._seen = _seen(prompt_ids, plan, vocabulary, device)
        self._counts = _counts(plan, vocabulary, device)
        self._bias = _bias(plan, device)
        self._generator = _generator(plan, device)

    def advance(self, produced: Sequence[int]) -> None:
        """Takes all tokens produced so far, and skips those that it knows already."""
        fresh = list(produced[self._known :])
        self._known += len(fresh)
        if not fresh:
            return
        if self.mask is not None:
            self.mask.advance(fresh)
        if self._seen is not None:
            self._seen[torch.tensor(fresh, device=self._device)] = True
        if self._counts is not None:
            ids = torch.tensor(fresh, device=self._device)
            self._counts.index_add_(0, ids, torch.ones(len(fresh), device=self._device))

    def choose(self, row: Tensor) -> None:
        """Changes `row` (float logits, shape [vocabulary]) so that its maximum is the chosen token."""
        before = row.clone() if self.plan.with_logprobs else None
        self._penalise(row)
        if self.mask is not None:
            self.mask.apply(row)
        if self._generator is not None:
            token = draw(row, self.plan, self._generator)
            row.fill_(-torch.inf).index_fill_(0, token.view(1), 0.0)
        if before is not None:
            scores = before.log_softmax(dim=-1)
            self.logprobs.append(float(scores[int(row.argmax())]))
            self.top_logprobs += likeliest(scores.unsqueeze(0), self.plan.top_logprobs)

    def _penalise(self, row: Tensor) -> None:
        if self._bias is not None:
            row.index_add_(0, *self._bias)
        if self._seen is not None:
            penalty = self.plan.repetition_penalty
            row.copy_(torch.where(self._seen, torch.where(row < 0, row * penalty, row / penalty), row))
        if self._counts is not None:
            row.sub_(self._counts * self.plan.frequency_penalty)
            row.sub_((self._counts > 0) * self.plan.presence_penalty)


def draw(row: Tensor, plan: SamplingPlan, generator: torch.Generator) -> Tensor:
    """The index of a token drawn from logits `row` with temperature, top_k and top_p; a 0-d tensor."""
    # Relative to the maximum, so that no temperature overflows to infinity minus infinity.
    scaled = (row - row.max()) / plan.temperature
    values, indices = nucleus(scaled, plan.top_k, plan.top_p)
    noise = torch.empty_like(values).exponential_(generator=generator).clamp_min_(TINY)
    return indices[(values - noise.log()).argmax()]


def nucleus(scores: Tensor, top_k: int | None, top_p: float) -> tuple[Tensor, Tensor]:
    """Candidate logits and their token ids after top_k and then top_p; there is at least one."""
    size = scores.numel()
    width = min(top_k or size, size)
    if top_p >= 1.0 and width == size:
        return scores, torch.arange(size, device=scores.device)
    if width == size:
        total = scores.logsumexp(dim=-1)
        values, indices = scores.topk(min(NUCLEUS_WIDTH, scores.numel()))
        if (values - total).exp().sum() < top_p:
            values, indices = scores.sort(descending=True)
        keep = _kept((values - total).exp(), top_p)
        return values[keep], indices[keep]
    values, indices = scores.topk(width)
    keep = _kept(values.softmax(dim=-1), top_p)
    return values[keep], indices[keep]


def _kept(probabilities: Tensor, top_p: float) -> Tensor:
    """A mask of tokens to keep: those whose more likely tokens sum to less than `top_p`, always the first."""
    keep = probabilities.cumsum(dim=-1) - probabilities < top_p
    keep[0] = True
    return keep


def _seen(
    prompt_ids: Sequence[int], plan: SamplingPlan, vocabulary: int, device: torch.device
) -> Tensor | None:
    if plan.repetition_penalty == 1.0:
        return None
    seen = torch.zeros(vocabulary, dtype=torch.bool, device=device)
    seen[torch.tensor(list(prompt_ids), dtype=torch.long, device=device)] = True
    return seen


def _counts(plan: SamplingPlan, vocabulary: int, device: torch.device) -> Tensor | None:
    if plan.presence_penalty == 0.0 and plan.frequency_penalty == 0.0:
        return None
    return torch.zeros(vocabulary, device=device)


def _bias(plan: SamplingPlan, device: torch.device) -> tuple[Tensor, Tensor] | None:
    if not plan.logit_bias:
        return None
    ids = torch.tensor(list(plan.logit_bias), device=device)
    return ids, torch.tensor(list(plan.logit_bias.values()), dtype=torch.float32, device=device)


def _generator(plan: SamplingPlan, device: torch.device) -> torch.Generator | None:
    if plan.temperature == 0.0:
        return None
    generator = torch.Generator(device)
    if plan.seed is None:
        generator.seed()
    else:
        generator.manual_seed(plan.seed)
    return generator
