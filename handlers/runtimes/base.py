"""The seam every inference library is adapted to: token ids in, steps of token ids out.

A runtime knows tokens, never text: templates, detokenising, stop strings and the context check are shared
code above it (`handlers.inference.model`). It adapts a library that already batches continuously.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """What a worker needs to load its weights; the build tool writes it into the archive."""

    model_path: Path
    precision: str
    device: str = "cpu"
    context: int | None = None
    threads: int | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """Decoding decisions with every default filled in, checked before any library sees them.

    `temperature` 0 means greedy; `top_k` None means the whole vocabulary; `seed` None means a random one.
    `logprobs` asks for those of the chosen tokens, `top_logprobs` for alternatives too: both under the
    model's own distribution, before bias, penalties, schema, temperature and cuts. `prefix_ids` are tokens
    the answer of a sequence-to-sequence model must start with (its target language); they are not part of
    the steps.
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
    """Tokens that became known since the last step; the last step of a request names its finish reason."""

    token_ids: Sequence[int]
    finish_reason: Literal["stop", "length"] | None = None
    logprobs: Sequence[float] | None = None
    top_logprobs: Sequence[Mapping[int, float]] | None = None


@dataclass(frozen=True, slots=True)
class RuntimeStats:
    """Counts at this moment; `kv_usage` is a fraction of the KV cache, None where the library hides it."""

    running: int
    waiting: int
    kv_usage: float | None = None


class Runtime(Protocol):
    """One loaded model. Methods are called on the worker's event loop, except `close`.

    `submit` streams steps; closing it (or cancelling its task) cancels the request at the library's next step
    and frees its slot, leaving the other requests of the batch untouched. A library failure raises
    RequestError 500 for every running request and calls `on_fatal`. `refused` names the sampling parameters
    that this runtime does not honour; they are turned down before they reach it.
    """

    name: ClassVar[str]
    refused: ClassVar[frozenset[str]]
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
        """The prompt's tokens but the first, each with its log-probability after those before it.

        With `top_logprobs` likelier alternatives too. RequestError 400 naming `echo` where a runtime cannot.
        """
        ...

    def stats(self) -> RuntimeStats: ...

    def close(self) -> None: ...


@runtime_checkable
class Embedder(Protocol):
    """What a runtime is besides whose model makes vectors; such a one generates no text.

    `max_tokens` bounds one input, `dimensions` is the length of a vector; `lower_case` says that the model
    wants its texts in lower case.
    """

    max_tokens: int
    dimensions: int
    lower_case: bool

    async def embed(self, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """A vector of length 1 for each input, in order. Cancelling it leaves out what was not begun."""
        ...
