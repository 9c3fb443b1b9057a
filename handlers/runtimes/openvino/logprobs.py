"""Log-probabilities of given tokens on openvino-genai, whose prefix cache hides some of them.

`echo` gives them for a prompt, except for tokens that the pipeline's prefix cache already holds. If one is
missing, a second pipeline without that cache computes them: a second copy of the weights, from the first such
request until the model is unloaded.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai

from handlers.runtimes.base import RuntimeConfig, SamplingPlan
from handlers.runtimes.openvino.config import ModelShape, generation_config, properties, scheduler
from handlers.runtimes.openvino.turns import quiet

REMEMBERED = 1024
LONGEST_REMEMBERED = 64
"""Most tokens of a remembered result: enough for labels of a classification, not for echoes of prompts."""

ECHO = SamplingPlan(max_tokens=1, logprobs=True)

Echo = tuple[int, Sequence[float]]
"""The number of returned tokens, and the log-probabilities of the last of them."""


class LastScores:
    """A cache of recent log-probabilities, by their tokens."""

    def __init__(self) -> None:
        self._scores: dict[bytes, list[float]] = {}

    def get(self, ids: Sequence[int], count: int) -> list[float] | None:
        """The last `count` log-probabilities of `ids`, if that many are known."""
        known = self._scores.get(_digest(ids), [])
        return known[len(known) - count :] if len(known) >= count else None

    def keep(self, ids: Sequence[int], logprobs: list[float]) -> None:
        """Adds `logprobs` if they are few; removes the oldest entry of a full cache."""
        if len(logprobs) <= LONGEST_REMEMBERED:
            self._scores[_digest(ids)] = logprobs
        if len(self._scores) > REMEMBERED:
            self._scores.pop(next(iter(self._scores)))


class LogProbabilities:
    """Computes log-probabilities; `echo` asks the serving pipeline. Short results are remembered."""

    def __init__(
        self,
        config: RuntimeConfig,
        shape: ModelShape,
        blocks: int,
        echo: Callable[[Sequence[int]], Awaitable[Echo]],
    ) -> None:
        self._config = config
        self._shape = shape
        self._blocks = blocks
        self._echo = echo
        self._uncached = asyncio.Lock()
        self._numbers = itertools.count()
        self._remembered = LastScores()

    async def of_last(self, ids: Sequence[int], count: int) -> list[float]:
        """The log-probabilities of the last `count` tokens of `ids`.

        `count` must not include the first token.
        """
        known = self._remembered.get(ids, count)
        if known is None:
            known = await self._compute(ids, count)
            self._remembered.keep(ids, known)
        return known

    async def _compute(self, ids: Sequence[int], count: int) -> list[float]:
        if "_pipeline" not in self.__dict__:
            tokens, found = await self._echo(ids)
            first = len(ids) - count - (tokens - len(found))
            if first >= 0:
                return list(found[first : first + count])
        async with self._uncached:
            # A task of its own, so that the loop watch recognises the library's steps by the task's name.
            apart = await asyncio.create_task(self._read(ids), name="openvino-step")
            return apart[len(apart) - count :]

    async def _read(self, ids: Sequence[int]) -> list[float]:
        pipeline = await asyncio.to_thread(getattr, self, "_pipeline")
        tensor = ov.Tensor(np.array([ids], dtype=np.int64))
        handle = pipeline.add_request(next(self._numbers), tensor, self._request)
        found: list[float] = []
        try:
            while pipeline.has_non_finished_requests():
                await quiet()
                pipeline.step()
                if handle.can_read():
                    (output,) = handle.read().values()
                    found += output.generated_log_probs
        finally:
            handle.cancel()
        return found[: len(ids)]

    @cached_property
    def _request(self) -> Any:
        config = generation_config(ECHO, self._shape.eos)
        config.echo = True
        return config

    @cached_property
    def _pipeline(self) -> Any:
        settings = scheduler(self._blocks, prefixes=False)
        return genai.ContinuousBatchingPipeline(
            str(self._config.model_path), settings, "CPU", properties(self._config), {}
        )


def _digest(ids: Sequence[int]) -> bytes:
    return sha256(np.array(ids, dtype=np.int64).tobytes()).digest()
