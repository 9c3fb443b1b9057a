"""A runtime under contract tests, loaded with the real demo model."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from archives.weights_info import Stamp, kv_token_bytes
from conductor_core.catalogue import Precision, RuntimeName
from conductor_core.runtimes import RUNTIMES
from handlers.inference.decoding_plan import Refused
from handlers.inference.generator import Generator
from handlers.inference.model import LoadedModel
from handlers.inference.tokenizer import TextTokenizer
from handlers.runtimes.base import OpenRuntime, Runtime, RuntimeConfig
from handlers.wire import GenerateRequest, RequestError, Sampling

GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 24}
PATIENCE_S = 120
END = 2
"""The id of the demo model's end token."""
TOLERANCE = {"openvino": 0.5, "transformers": 0.25}
"""Largest difference of one logit that is computed in two ways, as token by token and as a whole prompt.

BF16 has 8 significant bits: between 16 and 32, where the logits of this model end, its numbers are 1/8 apart,
and each way may be off by one step. 8-bit keys and values with a scale have half of BF16's steps near the
largest value, and far fewer near 0, which doubles the tolerance.
"""
PRECISION: dict[RuntimeName, Precision] = {"openvino": Precision.FILE, "transformers": Precision.BF16}

_numbers = itertools.count()


class Subject:
    """A loaded runtime under test, and its library without any of our code."""

    def __init__(
        self, name: str, folder: Path, context: int | None = None, memory: int | None = None
    ) -> None:
        self.name = name
        self.folder = folder
        self.fatal: list[str] = []
        self.runtime = self._load(context, memory)
        self.tokenizer = TextTokenizer(folder)
        self.refused = Refused(name, RUNTIMES[name].refused)
        self.generator = Generator(LoadedModel(self.runtime, self.tokenizer, self.refused))

    def _load(self, context: int | None, memory: int | None) -> Runtime:
        stamp = Stamp.read(self.folder)
        assert stamp is not None
        precision = PRECISION[self.name]
        config = RuntimeConfig(
            self.folder,
            stamp.info.quantisation if precision is Precision.FILE else precision.value,
            context=context,
            threads=2,
            memory=memory,
            kv_token_bytes=kv_token_bytes(stamp.info, self.name),
        )
        open_runtime: OpenRuntime = import_module(RUNTIMES[self.name].module).open_runtime
        return open_runtime(config, self.fatal.append)

    async def ask(self, prompt: str, **sampling: Any) -> dict[str, Any]:
        """The content of the last record. Raises RequestError if the request was refused."""
        async with self.stream(prompt, **sampling) as records:
            async for record in records:
                if "done" in record:
                    return dict(record["done"])
        raise AssertionError("the stream ended without its last record")

    async def all_records(self, **fields: Any) -> list[dict[str, Any]]:
        async with self.records(**fields) as records:
            return [record async for record in records]

    async def outcome(self, prompt: str, **sampling: Any) -> dict[str, Any] | RequestError:
        """The answer, or the refusal as a value."""
        try:
            return await self.ask(prompt, **sampling)
        except RequestError as refusal:
            return refusal

    @asynccontextmanager
    async def stream(self, prompt: str, **sampling: Any) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        async with self.records(prompt=prompt, sampling=Sampling(**sampling)) as records:
            yield records

    @asynccontextmanager
    async def records(self, **fields: Any) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The records of any request."""
        request = GenerateRequest(id=f"r{next(_numbers)}", engine="conversational_chat", **fields)
        async with asyncio.timeout(PATIENCE_S), aclosing(self.generator.records(request)) as records:
            yield records

    async def settled(self) -> None:
        """Wait until the runtime has no request."""
        async with asyncio.timeout(PATIENCE_S):
            while (stats := self.runtime.stats()).running or stats.waiting:
                await asyncio.sleep(0.01)
