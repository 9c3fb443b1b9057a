"""Log-probabilities of given continuations, by plain forward passes outside of any batch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from handlers.runtimes.base import Step

# Limits the logits in memory: rows x longest continuation x vocabulary floats.
ROWS = 16

CHUNK = 256
"""Prompt tokens of one forward pass: their logits are 50 to 250 MB of floats."""


@torch.inference_mode()
def score_causal(
    model: Any, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Log-probabilities of the tokens of each continuation; the prompt is computed once.

    Padding is on the right, which does not change the tokens before it in a causal model.
    """
    prompt = torch.tensor([list(prompt_ids)], device=model.device)
    first = model(prompt, use_cache=True, logits_to_keep=1)
    scores: list[list[float]] = []
    for start in range(0, len(continuations), ROWS):
        rows = continuations[start : start + ROWS]
        cache = copy.deepcopy(first.past_key_values)
        cache.batch_repeat_interleave(len(rows))
        rest = model(padded(rows, model.device), past_key_values=cache, use_cache=True).logits
        logits = torch.cat([first.logits.expand(len(rows), 1, -1), rest], dim=1)
        scores.extend(picked(logits, rows))
    return scores


@torch.inference_mode()
def read_causal(model: Any, prompt_ids: Sequence[int], top_logprobs: int) -> Step:
    """All prompt tokens except the first, with their log-probabilities; see `Runtime.read`."""
    logprobs: list[float] = []
    top: list[dict[int, float]] = []
    cache = None
    for start in range(0, len(prompt_ids) - 1, CHUNK):
        given, targets = prompt_ids[start : start + CHUNK], prompt_ids[start + 1 : start + CHUNK + 1]
        output = model(
            torch.tensor([list(given)], device=model.device), past_key_values=cache, use_cache=True
        )
        cache = output.past_key_values
        scores = output.logits[0, : len(targets)].float().log_softmax(dim=-1)
        wanted = torch.tensor(list(targets), device=model.device).view(-1, 1)
        logprobs += scores.gather(1, wanted).view(-1).tolist()
        top += likeliest(scores, top_logprobs)
    return Step(prompt_ids[1:], None, logprobs, top)


def likeliest(scores: Tensor, count: int) -> list[dict[int, float]]:
    """The `count` highest values of each row with their indices, highest first."""
    best = scores.topk(min(count, scores.size(-1)), dim=-1)
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [dict(zip(indices, values, strict=True)) for indices, values in rows]


@torch.inference_mode()
def score_sequence_to_sequence(
    model: Any, prompt_ids: Sequence[int], start_ids: Sequence[int], continuations: Sequence[Sequence[int]]
) -> list[list[float]]:
    """As `score_causal`, for an encoder-decoder model whose answer begins with `start_ids`."""
    prompt = torch.tensor([list(prompt_ids)], device=model.device)
    encoded = model.get_encoder()(prompt).last_hidden_state
    scores: list[list[float]] = []
    for start in range(0, len(continuations), ROWS):
        rows = continuations[start : start + ROWS]
        given = padded([[*start_ids, *row] for row in rows], model.device)
        output = model(
            encoder_outputs=(encoded.expand(len(rows), -1, -1),),
            attention_mask=torch.ones(len(rows), prompt.size(1), device=model.device, dtype=torch.long),
            decoder_input_ids=given,
            use_cache=False,
        )
        scores.extend(picked(output.logits[:, len(start_ids) - 1 :], rows))
    return scores


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Rows of token ids as one tensor (rows, longest), padded with 0 on the right."""
    longest = max(1, max(len(row) for row in rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)


def picked(logits: Tensor, rows: Sequence[Sequence[int]]) -> list[list[float]]:
    """The log-probability of each `rows[i][j]` under `logits[i, j]`."""
    result = []
    for row_logits, row in zip(logits, rows, strict=True):
        scores = row_logits[: len(row)].float().log_softmax(dim=-1)
        result.append(
            scores.gather(1, torch.tensor([row], device=logits.device).view(-1, 1)).view(-1).tolist()
        )
    return result
