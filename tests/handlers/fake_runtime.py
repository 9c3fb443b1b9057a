"""A scripted runtime: token ids of given texts, one per step, with gates at which a test can stop it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from handlers.runtimes.base import RuntimeStats, SamplingPlan, Step


class ScriptedRuntime:
    """Answers every request with `ids`.

    Records the plans that it got and the requests that were cancelled.
    """

    def __init__(self, ids: Sequence[int], *, context: int = 100, vocabulary: int = 1000) -> None:
        self.ids = list(ids)
        self.context = context
        self.vocabulary = vocabulary
        self.plans: list[SamplingPlan] = []
        self.closed_early: list[str] = []
        self.gate: asyncio.Event | None = None

    async def submit(
        self, request_id: str, prompt_ids: Sequence[int], plan: SamplingPlan
    ) -> AsyncGenerator[Step, None]:
        self.plans.append(plan)
        finished = False
        try:
            for count, token in enumerate(self.ids[: plan.max_tokens], start=1):
                if self.gate is not None:
                    await self.gate.wait()
                last = count == min(len(self.ids), plan.max_tokens)
                finished = last
                reason = ("stop" if count == len(self.ids) else "length") if last else None
                told, top = ([-0.5], [{token: -0.5}]) if plan.with_logprobs else (None, None)
                yield Step([token], reason, told, top)  # type: ignore[arg-type]
        finally:
            if not finished:
                self.closed_early.append(request_id)

    async def score(
        self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        return [[-1.0] * len(ids) for ids in continuations]

    async def read(self, prompt_ids: Sequence[int], top_logprobs: int) -> Step:
        return Step(prompt_ids[1:], None, [-float(i) for i in range(1, len(prompt_ids))])

    def stats(self) -> RuntimeStats:
        return RuntimeStats(running=0, waiting=0)

    def close(self) -> None:
        return None
