"""From the last hidden states of a batch to one vector of length 1 for each text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch


def pooled(states: torch.Tensor, mask: torch.Tensor, poolings: Sequence[str]) -> torch.Tensor:
    """Rows of float32. `states` is (texts, tokens, width), `mask` has 1 for tokens and 0 behind them."""
    states = states.float()
    parts = [_POOL[name](states, mask) for name in poolings]
    return torch.nn.functional.normalize(torch.cat(parts, dim=1), dim=1)


def _first(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return states[:, 0]


def _last(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return states[torch.arange(len(states)), mask.sum(dim=1) - 1]


def _mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _max(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return states.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)


_POOL: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cls": _first,
    "last": _last,
    "mean": _mean,
    "max": _max,
}
