"""Short calls on a runtime that the tests of several runtimes share."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from handlers.runtimes.base import Runtime, SamplingPlan, Step

PATIENCE_S = 60
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Answer:
    """All steps of one request joined."""

    ids: list[int]
    reason: str | None
    logprobs: list[float]
    top_logprobs: list[dict[int, float]]


async def ask(runtime: Runtime, prompt: Sequence[int], max_tokens: int = 16, **plan: Any) -> Answer:
    """The whole answer to `prompt`; raises the errors of the runtime."""
    steps: list[Step] = []
    sampling = SamplingPlan(max_tokens=max_tokens, **plan)
    async with asyncio.timeout(PATIENCE_S):
        steps.extend([step async for step in runtime.submit(f"t{next(_numbers)}", prompt, sampling)])
    return Answer(
        ids=[i for step in steps for i in step.token_ids],
        reason=steps[-1].finish_reason,
        logprobs=[p for step in steps for p in step.logprobs or ()],
        top_logprobs=[dict(p) for step in steps for p in step.top_logprobs or ()],
    )


async def leave_after_first_step(runtime: Runtime, prompt: Sequence[int], **plan: Any) -> None:
    """Closes the stream of a long request after its first step."""
    async with asyncio.timeout(PATIENCE_S):
        async with aclosing(runtime.submit(f"t{next(_numbers)}", prompt, SamplingPlan(**plan))) as steps:
            await anext(steps)


async def drain(stream: AsyncIterator[Step]) -> None:
    """Reads a stream to its end."""
    async for _ in stream:
        pass


async def settled(runtime: Runtime) -> None:
    """Waits until the runtime has no request."""
    async with asyncio.timeout(PATIENCE_S):
        while (stats := runtime.stats()).running or stats.waiting:
            await asyncio.sleep(0.005)
