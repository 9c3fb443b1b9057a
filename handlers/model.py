"""A loaded model as an engine sees it: text in, text out, counted and checked.

Stands between engines (text) and a runtime (token ids): chat template, context check, defaults of decoding,
detokenising and stop strings. The same code for every runtime, so that all of them answer alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import takewhile
from typing import Any

from handlers.engines.base import Control, Embeddings, Kept
from handlers.runtimes.base import Embedder, Runtime, SamplingPlan
from handlers.stop_strings import StopStrings
from handlers.tokenizer import TextTokenizer
from handlers.wire import FinishReason, Message, RequestError, Sampling, Usage

MOST_NUMBERS = 4_000_000
"""Of all vectors of one answer: as JSON they fill most of what a record may have."""
LONG_TEXT = 20_000
"""Characters from which tokenising is moved off the event loop: 5 MB take seconds."""


class LoadedModel:
    """One worker's runtime with its tokenizer; makes a `RequestModel` for each request."""

    def __init__(self, runtime: Runtime, tokenizer: TextTokenizer) -> None:
        self.runtime = runtime
        self.tokenizer = tokenizer
        self._kept: dict[type, Any] = {}

    def for_request(self, request_id: str) -> RequestModel:
        return RequestModel(self.runtime, self.tokenizer, request_id, self._kept)


class RequestModel:
    """What `handlers.engines.base.Model` describes, with `usage` and times of one request."""

    def __init__(
        self, runtime: Runtime, tokenizer: TextTokenizer, request_id: str, kept: dict[type, Any]
    ) -> None:
        self._kept = kept
        self._runtime = runtime
        self._tokenizer = tokenizer
        self._id = request_id
        self._started = time.monotonic()
        self.context = runtime.context
        self.languages = None if tokenizer.languages is None else frozenset(tokenizer.languages)
        self.usage = Usage()
        self.finish_reason: FinishReason = "stop"
        self.first_token_s: float | None = None

    @property
    def total_s(self) -> float:
        """Seconds since the request came in."""
        return time.monotonic() - self._started

    async def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str, None]:
        """Pieces of the answer, cut at the first stop string, never ending inside a character."""
        prompt_ids = await self._encode(messages)
        async with aclosing(self._answer(prompt_ids, sampling)) as pieces:
            async for piece in pieces:
                yield piece

    async def translate(
        self, text: str, source: str, target: str, sampling: Sampling
    ) -> AsyncGenerator[str, None]:
        """Pieces of a translation; `source` and `target` are the model's own language codes, or empty."""
        prompt_ids = self._tokenizer.encode_source(text, source)
        prefix_ids = self._tokenizer.language_ids(target)
        async with aclosing(self._answer(prompt_ids, sampling, prefix_ids)) as pieces:
            async for piece in pieces:
                yield piece

    async def complete(
        self, parts: Sequence[str | Control], sampling: Sampling, ends: Sequence[str] = ()
    ) -> AsyncGenerator[str, None]:
        """Pieces that follow the bare `parts`; RequestError 400 where there is nothing to follow."""
        prompt_ids = await asyncio.to_thread(self._encode_parts, parts)
        known = (self._tokenizer.control_id(token) for token in ends)
        end_ids = frozenset(token for token in known if token is not None)
        async with aclosing(self._answer(prompt_ids, sampling, end_ids=end_ids)) as pieces:
            async for piece in pieces:
                yield piece

    def has_control(self, token: str) -> bool:
        """Whether `token` is one token of the model beside its ordinary vocabulary."""
        return self._tokenizer.control_id(token) is not None

    def kept(self, kind: type[Kept]) -> Kept:
        """The one `kind` of this worker's model."""
        if kind not in self._kept:
            self._kept[kind] = kind()
        return self._kept[kind]  # type: ignore[no-any-return]

    async def score(self, prompt: str, continuations: Sequence[str]) -> list[float]:
        """Log-probability of each continuation after the prompt, summed over its tokens."""
        refuse_embedder(self._runtime)
        prompt_ids = self._tokenizer.encode(prompt)
        ids = [self._tokenizer.encode(text) for text in continuations]
        longest = len(prompt_ids) + max(map(len, ids), default=0)
        check_context(longest, self.context)
        self.usage += Usage(prompt_tokens=len(prompt_ids))
        return [sum(log_probs) for log_probs in await self._runtime.score(prompt_ids, ids)]

    async def embed(self, inputs: Sequence[str]) -> Embeddings:
        """One vector for each input; RequestError 400 where the runtime makes none, or too many at once."""
        runtime = self._runtime
        if not isinstance(runtime, Embedder):
            raise RequestError("this model generates text and makes no embeddings", code="unsupported")
        if len(inputs) * runtime.dimensions > MOST_NUMBERS:
            raise RequestError(
                f"at most {MOST_NUMBERS // runtime.dimensions} inputs at once: a vector of this model has "
                f"{runtime.dimensions} numbers",
                param="options.inputs",
            )
        encoded = await asyncio.to_thread(self._encode_inputs, inputs, runtime)
        ids = [ids for ids, _ in encoded]
        self.usage += Usage(prompt_tokens=sum(map(len, ids)))
        truncated = [number for number, (_, cut) in enumerate(encoded) if cut]
        return Embeddings(await runtime.embed(ids), truncated, runtime.max_tokens)

    def _encode_inputs(self, inputs: Sequence[str], runtime: Embedder) -> list[tuple[list[int], bool]]:
        texts = [text.lower() for text in inputs] if runtime.lower_case else inputs
        return [self._tokenizer.encode_whole(text, runtime.max_tokens) for text in texts]

    def count(self, text: str) -> int:
        """Tokens of `text` by the model's own tokenizer."""
        return self._tokenizer.count(text)

    async def count_chat(self, messages: Sequence[Message]) -> int:
        """Tokens that `stream` would ask of these messages, the chat template's own included."""
        return len(await self._encode(messages))

    async def _answer(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        prefix_ids: Sequence[int] = (),
        end_ids: frozenset[int] = frozenset(),
    ) -> AsyncGenerator[str, None]:
        plan = replace(make_plan(sampling, len(prompt_ids), self._runtime), prefix_ids=prefix_ids)
        stops, decoder = StopStrings(sampling.stop or ()), self._tokenizer.decoder()
        self.usage += Usage(prompt_tokens=len(prompt_ids))
        async with aclosing(self._runtime.submit(self._id, prompt_ids, plan)) as steps:
            async for step in steps:
                self._count(len(step.token_ids))
                ids = list(takewhile(lambda token: token not in end_ids, step.token_ids))
                ended = len(ids) < len(step.token_ids)
                piece = stops.feed(decoder.feed(ids))
                if piece:
                    yield piece
                if stops.hit or ended or step.finish_reason is not None:
                    self.finish_reason = "stop" if stops.hit or ended else step.finish_reason or "stop"
                    break
        if rest := stops.flush():
            yield rest

    def _encode_parts(self, parts: Sequence[str | Control]) -> list[int]:
        known = [self._tokenizer.control_id(p.token) if isinstance(p, Control) else p for p in parts]
        ids = self._tokenizer.encode_bare([part for part in known if part is not None])
        if not ids:
            raise RequestError("there is no text to continue", code="empty_prompt", param="prompt")
        return ids

    async def _encode(self, messages: Sequence[Message]) -> list[int]:
        if sum(len(message.content) for message in messages) < LONG_TEXT:
            return self._tokenizer.encode_chat(messages)
        return await asyncio.to_thread(self._tokenizer.encode_chat, messages)

    def _count(self, tokens: int) -> None:
        if tokens and self.first_token_s is None:
            self.first_token_s = self.total_s
        self.usage += Usage(completion_tokens=tokens)


def check_context(tokens: int, context: int) -> None:
    """Raises RequestError 400 with both numbers when a prompt leaves no room for an answer."""
    if tokens >= context:
        raise RequestError(
            f"the prompt has {tokens} tokens, the model's context is {context} tokens",
            code="context_length_exceeded",
            param="prompt",
        )


def make_plan(sampling: Sampling, prompt_tokens: int, runtime: Runtime) -> SamplingPlan:
    """Every decoding value filled in and within what `runtime` can do; RequestError 400 names what is not.

    `max_tokens` is cut to what the context leaves, and the answer then ends with `finish_reason` length.
    """
    refuse_embedder(runtime)
    check_context(prompt_tokens, runtime.context)
    refuse_unsupported(sampling, runtime)
    room = runtime.context - prompt_tokens
    plan: dict[str, Any] = {
        name: value
        for name, value in sampling
        if value is not None and name not in {"stop", "max_tokens", "top_k", "logit_bias"}
    }
    return SamplingPlan(
        max_tokens=min(sampling.max_tokens or room, room),
        top_k=sampling.top_k or None,
        logit_bias=token_bias(sampling.logit_bias, runtime.vocabulary),
        **plan,
    )


def refuse_embedder(runtime: Runtime) -> None:
    """Raises RequestError 400 where the model makes vectors and no text."""
    if isinstance(runtime, Embedder):
        raise RequestError(
            "this model makes embeddings and generates no text: use the engine embedding, or another model",
            code="unsupported",
            param="model",
        )


def refuse_unsupported(sampling: Sampling, runtime: Runtime) -> None:
    """Raises RequestError 400 naming the first parameter that the runtime may refuse and does."""
    for name in sorted(runtime.refused):
        if getattr(sampling, name) not in (None, 0):
            raise RequestError(
                f"runtime {runtime.name} does not support {name}", code="unsupported_parameter", param=name
            )


def token_bias(bias: dict[str, float] | None, vocabulary: int) -> dict[int, float] | None:
    """`logit_bias` with its keys as token ids; RequestError 400 for a key outside the vocabulary."""
    if not bias:
        return None
    for key in bias:
        # Ten digits hold every vocabulary; int() itself refuses thousands of them with another error.
        if not (key.isascii() and key.isdigit() and len(key) <= 10 and int(key) < vocabulary):
            raise RequestError(
                f"logit_bias names token {key[:40]!r}; ids go from 0 to {vocabulary - 1}",
                code="invalid_logit_bias",
                param="logit_bias",
            )
    return {int(key): value for key, value in bias.items()}
