"""No request harms its neighbours where the KV cache is small: one body over every runtime.

The cache holds one conversation of 1,024 tokens and little more, so that a long one fills it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from conductor_core.catalogue import RuntimeName
from handlers.runtimes.base import SamplingPlan
from tests.contract.subject import PATIENCE_S, PRECISION, Subject
from tests.demo import demo_folder

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

CONTEXT = 1024
SHORT_ANSWER = 4
LEAVES = [*(("short", tokens) for tokens in (0, 1, 2, 3, 4, 8)), *(("long", n) for n in range(1, 7))]
"""When the long one leaves: after so many tokens of all short ones, or of its own."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["openvino", "transformers"])
async def scarce(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    name: RuntimeName = request.param
    made = Subject(name, demo_folder(name, PRECISION[name]), context=CONTEXT, memory=1)
    yield made
    made.runtime.close()
    assert not made.fatal


class Crowd:
    """Requests by token ids, and how many tokens the short and the long ones have got."""

    def __init__(self, subject: Subject) -> None:
        self._runtime = subject.runtime
        self.said = {"short": 0, "long": 0}
        self.order: list[str] = []
        self._changed = asyncio.Event()

    async def ask(
        self, kind: str, first: int, length: int, tokens: int, **plan: Any
    ) -> tuple[int, str | None]:
        """Tokens and finish reason of an answer to a prompt that begins with `first`."""
        ids = [first, *(300 + number % 40 for number in range(length - 1))]
        count, reason = 0, None
        async for step in self._runtime.submit("n", ids, SamplingPlan(max_tokens=tokens, **plan)):
            count += len(step.token_ids)
            self.said[kind] += len(step.token_ids)
            reason = step.finish_reason
            self._changed.set()
        self.order.append(kind)
        self._changed.set()
        return count, reason

    async def reached(self, kind: str, tokens: int) -> None:
        """Waits for so many tokens, or for the end of one that says fewer."""
        while self.said[kind] < tokens and kind not in self.order:
            self._changed.clear()
            await self._changed.wait()

    async def begun(self) -> None:
        while not self._runtime.stats().running:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("kind", "tokens"), LEAVES)
async def test_a_long_stream_that_leaves_harms_no_short_one(scarce: Subject, kind: str, tokens: int) -> None:
    crowd = Crowd(scarce)
    async with asyncio.timeout(PATIENCE_S):
        # Read anew while the short ones are read, else out of the prefix cache.
        first = 1000 + (tokens if kind == "short" else 0)
        long = asyncio.create_task(crowd.ask("long", first, CONTEXT - 60, 60))
        await crowd.begun()
        shorts = [asyncio.create_task(crowd.ask("short", 2000 + n, 40, SHORT_ANSWER)) for n in range(8)]
        await crowd.reached(kind, tokens)
        long.cancel()
        answers = await asyncio.gather(*shorts)
    assert all(reason in {"stop", "length"} for _, reason in answers)
    await scarce.settled()


async def test_two_long_streams_end_one_after_the_other(scarce: Subject) -> None:
    crowd = Crowd(scarce)
    async with asyncio.timeout(PATIENCE_S):
        longs = [asyncio.create_task(crowd.ask("long", 3000 + n, CONTEXT - 60, 8)) for n in range(2)]
        await crowd.begun()
        short = await crowd.ask("short", 3100, 40, SHORT_ANSWER)
        answers = await asyncio.gather(*longs)
    assert [reason in {"stop", "length"} for _, reason in (short, *answers)] == [True] * 3
    await scarce.settled()


async def test_answers_that_outgrow_the_cache_come_whole(scarce: Subject) -> None:
    """Each with another state that has to survive being put back."""
    crowd = Crowd(scarce)
    plans: list[dict[str, Any]] = [
        {},
        {"temperature": 1.0, "seed": 5},
        {"presence_penalty": 1.0},
        {"temperature": 1.0, "logprobs": True},
    ]
    asked = [crowd.ask("short", 4000 + n, 400, 64, **plan) for n, plan in enumerate(plans)]
    async with asyncio.timeout(PATIENCE_S):
        answers = await asyncio.gather(*asked)
    assert all(reason == "stop" or count == 64 for count, reason in answers)
    await scarce.settled()
