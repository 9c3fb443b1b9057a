"""No request harms its neighbours in a small KV cache: the same tests over every runtime.

The cache holds one conversation of 1,024 tokens and little beside it. Openvino has the real demo model, and
transformers a tiny one under the same library: 960 tokens of the demo model take it 10 s on two cores.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from handlers.runtimes.base import Runtime, RuntimeConfig, SamplingPlan
from tests.demo import demo_folder
from tests.handlers.runtime_calls import settled
from tests.handlers.tiny_models import EOS, VOCABULARY, tiny_llama
from tests.loop_steps import own_work

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

CONTEXT = 1024
SHORT, SHORT_ANSWER = 120, 4
PATIENCE_S = 120
LEAVES = [*(("short", tokens) for tokens in (0, 1, 2, 3, 4, 8)), *(("long", n) for n in range(1, 7))]
"""Moments at which the long request is cancelled: after that many tokens of all short ones, or of its own."""
ENDED = {"stop", "length"}
_unread = itertools.count(7000)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["openvino", "transformers"])
async def scarce(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Runtime]:
    fatal: list[str] = []
    made: Runtime
    if request.param == "openvino":
        from handlers.runtimes.openvino.runtime import OpenVinoRuntime

        made = OpenVinoRuntime(_config(demo_folder("openvino"), "Q4_1"), fatal.append)
    else:
        from handlers.runtimes.transformers.causal import TransformersRuntime

        folder = tiny_llama(tmp_path_factory.mktemp("tiny-llama"))
        made = TransformersRuntime(_config(folder, "FP32"), fatal.append)
    yield made
    made.close()
    assert not fatal


def _config(folder: Path, precision: str) -> RuntimeConfig:
    return RuntimeConfig(folder, precision, context=CONTEXT, threads=1, memory=1)


class Crowd:
    """Sends named requests of token ids, and counts the tokens of each name."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.said: Counter[str] = Counter()
        self._ended: set[str] = set()
        self._changed = asyncio.Event()

    async def ask(
        self, name: str, first: int, length: int, tokens: int, **plan: Any
    ) -> tuple[int, str | None]:
        """Number of tokens and finish reason of an answer; `first` makes the prompt unique."""
        ids = [4 + number % (VOCABULARY - 4) for number in (first, first // 7, *range(length - 2))]
        count, reason = 0, None
        try:
            async for step in self._runtime.submit("n", ids, SamplingPlan(max_tokens=tokens, **plan)):
                count += len(step.token_ids)
                self.said[name] += len(step.token_ids)
                reason = step.finish_reason
                self._changed.set()
        finally:
            self._ended.add(name)
            self._changed.set()
        return count, reason

    async def reached(self, name: str, tokens: int) -> None:
        """Wait for that many tokens, or for the end of a request with fewer."""
        while self.said[name] < tokens and name not in self._ended:
            self._changed.clear()
            await self._changed.wait()

    async def begun(self) -> None:
        while not self._runtime.stats().running:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(("name", "tokens"), LEAVES)
async def test_a_long_stream_that_leaves_harms_no_short_one(scarce: Runtime, name: str, tokens: int) -> None:
    crowd = Crowd(scarce)
    async with asyncio.timeout(PATIENCE_S):
        # Computed again while the short ones are read, else taken from the prefix cache.
        first = 1000 + (tokens if name == "short" else 0)
        long = asyncio.create_task(crowd.ask("long", first, CONTEXT - 60, 60))
        await crowd.begun()
        shorts = [
            asyncio.create_task(crowd.ask("short", 2000 + n, SHORT, SHORT_ANSWER, temperature=1.0))
            for n in range(8)
        ]
        await crowd.reached(name, tokens)
        long.cancel()
        answers = await asyncio.gather(*shorts)
    assert all(reason in ENDED for _, reason in answers)
    await settled(scarce)


async def test_two_long_streams_end_one_after_the_other(scarce: Runtime) -> None:
    crowd = Crowd(scarce)
    async with asyncio.timeout(PATIENCE_S):
        longs = [asyncio.create_task(crowd.ask("long", 3000 + n, CONTEXT - 60, 8)) for n in range(2)]
        await crowd.begun()
        short = await crowd.ask("short", 3100, 40, SHORT_ANSWER)
        answers = await asyncio.gather(*longs)
    assert all(reason in ENDED for _, reason in (short, *answers))
    await settled(scarce)


async def test_answers_that_outgrow_the_cache_come_whole(scarce: Runtime) -> None:
    """Requests with different state that must survive preemption."""
    crowd = Crowd(scarce)
    plans: list[dict[str, Any]] = [
        {},
        {"temperature": 1.0, "seed": 5},
        {"presence_penalty": 1.0},
        {"temperature": 1.0, "logprobs": True},
    ]
    asked = [crowd.ask("short", 4000 + n, 200, 64, **plan) for n, plan in enumerate(plans * 2)]
    async with asyncio.timeout(PATIENCE_S):
        answers = await asyncio.gather(*asked)
    assert all(reason == "stop" or count == 64 for count, reason in answers)
    await settled(scarce)


async def test_one_that_was_put_back_goes_on_when_the_holder_of_the_cache_leaves(scarce: Runtime) -> None:
    crowd = Crowd(scarce)
    async with asyncio.timeout(PATIENCE_S):
        holder, put_back = (
            asyncio.create_task(crowd.ask(name, 5000 + n, 500, 120, logit_bias={EOS: -100.0}))
            for n, name in enumerate(("holder", "put back"))
        )
        # Past 512 tokens each needs a third of the five pages of transformers.
        await crowd.reached("holder", 60)
        holder.cancel()
        _, reason = await put_back
    assert reason in ENDED
    await settled(scarce)


@pytest.mark.proof
async def test_first_tokens_beside_a_long_stream_come_within_twice_of_alone() -> None:
    """Medians of eight prompts of 304 tokens at once, alone and while a prompt near the context is read."""
    from handlers.runtimes.openvino.runtime import OpenVinoRuntime

    with own_work("the model is loaded"):
        config = RuntimeConfig(demo_folder("openvino"), "Q4_1", threads=2, kv_token_bytes=12_960)
        runtime = OpenVinoRuntime(config, _fails)
    crowd = Crowd(runtime)
    try:
        async with asyncio.timeout(4 * PATIENCE_S):
            before = await _first_token_s(crowd, "before")
            long = asyncio.create_task(crowd.ask("long", 6000, 7500, 600))
            await crowd.begun()
            beside = await _first_token_s(crowd, "beside")
            said = crowd.said["long"]
            long.cancel()
            await settled(runtime)
            after = await _first_token_s(crowd, "after")
    finally:
        runtime.close()
    print(
        f"first token: alone {before:.2f} and {after:.2f} s, beside {beside:.2f} s; the long one said {said}"
    )
    assert beside <= 2 * max(before, after)


async def _first_token_s(crowd: Crowd, kind: str) -> float:
    begun = time.perf_counter()
    names = [f"{kind} {n}" for n in range(8)]
    asked = [asyncio.create_task(crowd.ask(name, next(_unread), 304, 2)) for name in names]
    waits = [asyncio.create_task(_seconds_until(crowd, name, begun)) for name in names]
    seconds = await asyncio.gather(*waits)
    await asyncio.gather(*asked)
    return statistics.median(seconds)


async def _seconds_until(crowd: Crowd, name: str, begun: float) -> float:
    await crowd.reached(name, 1)
    return time.perf_counter() - begun


def _fails(line: str) -> None:
    raise AssertionError(line)
