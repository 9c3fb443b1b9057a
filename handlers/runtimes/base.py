"""The interface of all runtimes: token ids in, steps of token ids out.

A runtime knows tokens and no text: templates, detokenising, stop strings and the context check are shared
code above it (`handlers.inference.model`). It adapts a library that has its own continuous batching. Its
module, named by the worker's configuration, has a function `open_runtime` (`OpenRuntime`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """Settings for loading a model; `context` is in tokens, `memory` in bytes.

    `kv_token_bytes` are the bytes of a token in the KV cache, as the build tool computes them from the
    headers of the weights; 0 if there is no cache, or its size is not known.
    """

    model_path: Path
    precision: str
    device: str = "cpu"
    context: int | None = None
    threads: int | None = None
    memory: int | None = None
    kv_token_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """Decoding parameters with all defaults filled in, checked before a library gets them.

    `temperature` 0 means greedy; `top_k` None means the whole vocabulary; `seed` None means a random seed.
    `logprobs` asks for log-probabilities of the chosen tokens, `top_logprobs` for alternatives too: both
    under the model's own distribution, before bias, penalties, schema, temperature, top_k and top_p.
    `prefix_ids` are the tokens that begin the answer of a sequence-to-sequence model (its target language);
    steps omit them.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    json_schema: dict[str, Any] | None = None
    logit_bias: dict[int, float] | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    prefix_ids: Sequence[int] = ()

    @property
    def with_logprobs(self) -> bool:
        return self.logprobs or self.top_logprobs > 0


@dataclass(frozen=True, slots=True)
class Step:
    """New tokens since the last step; the last step of a request has its finish reason."""

    token_ids: Sequence[int]
    finish_reason: Literal["stop", "length"] | None = None
    logprobs: Sequence[float] | None = None
    top_logprobs: Sequence[Mapping[int, float]] | None = None


@dataclass(frozen=True, slots=True)
class RuntimeStats:
    """Current numbers of requests; `kv_usage` is the used fraction of the KV cache, None if unknown."""

    running: int
    waiting: int
    kv_usage: float | None = None


class Runtime(Protocol):
    """One loaded model. Methods are called on the worker's event loop, except `close`.

    `submit` streams steps; closing it (or cancelling its task) cancels the request at the library's next step
    and frees its slot; other requests of the batch go on. A library failure raises RequestError 500 for every
    running request and calls `on_fatal`. Requests with parameters that the runtime's entry refuses do not
    reach it.
    """

    context: int
    vocabulary: int

    def submit(
        self, request_id: str, prompt_ids: Sequence[int], plan: SamplingPlan
    ) -> AsyncGenerator[Step, None]: ...

    async def score(
        self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Log-probability of each token of each continuation after the prompt."""
        ...

    async def read(self, prompt_ids: Sequence[int], top_logprobs: int) -> Step:
        """All prompt tokens except the first, each with its log-probability after the tokens before it.

        `top_logprobs` is the number of alternatives per token. RequestError 400 names `echo` if unsupported.
        """
        ...

    def stats(self) -> RuntimeStats: ...

    def close(self) -> None: ...


OpenRuntime = Callable[[RuntimeConfig, Callable[[str], None]], Runtime]
"""Loads the weights, and blocks until they are loaded; the second argument is `on_fatal`."""


@runtime_checkable
class Embedder(Protocol):
    """A runtime of an embedding model, which makes vectors and generates no text.

    `max_tokens` is the limit of one input, `dimensions` the length of a vector; `lower_case` is True if the
    model needs texts in lower case.
    """

    max_tokens: int
    dimensions: int
    lower_case: bool

    async def embed(self, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """A vector of length 1 for each input, in order. Cancelling it skips inputs that were not begun."""
        ...
