"""The rows of one batched `generate` call: each with its own decoding, limit, progress and cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from handlers.runtimes.transformers_decoding import RequestDecoding
from handlers.runtimes.transformers_flow import Flow, Progress


@dataclass(slots=True)
class Job:
    """One row of a batch. `tokens` begins with `prefix`; `limit` counts both."""

    prompt_ids: Sequence[int]
    prefix: tuple[int, ...]
    limit: int
    decoding: RequestDecoding
    flow: Flow
    loop: asyncio.AbstractEventLoop
    tokens: list[int] = field(default_factory=list)
    cancelled: bool = False
    finished: bool = False

    def report(self, error: str | None = None) -> None:
        """Carry the row's progress to its event loop; from any thread."""
        progress = Progress(list(self.tokens), self.finished or error is not None, error)
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.flow.receive, progress)


class RowDecoding(LogitsProcessor):
    """Gives each row of a batch to its own decoding; a row's prefix is forced."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores`: float logits (rows, vocabulary), changed in place."""
        for job, row in zip(self._jobs, scores, strict=True):
            if len(job.tokens) < len(job.prefix):
                row.fill_(-torch.inf)[job.prefix[len(job.tokens)]] = 0.0
            elif not job.finished:
                job.decoding.advance(job.tokens[len(job.prefix) :])
                job.decoding.choose(row)
        return scores


class RowStops(StoppingCriteria):
    """Notes each row's new token, reports it, and ends rows that are done or cancelled."""

    def __init__(self, jobs: Sequence[Job], eos_ids: Sequence[int]) -> None:
        self._jobs = jobs
        self._eos_ids = frozenset(eos_ids)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """True for each row that gets no further token."""
        for job, token in zip(self._jobs, input_ids[:, -1].tolist(), strict=True):
            if not job.finished and not job.cancelled:
                job.tokens.append(token)
                job.finished = token in self._eos_ids or len(job.tokens) >= job.limit
                job.report()
        return torch.tensor([job.finished or job.cancelled for job in self._jobs], device=input_ids.device)
