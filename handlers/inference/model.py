"""A loaded model as an engine sees it: text in, text out, with token counts and checks.

Connects engines (text) with a runtime (token ids): chat template, context check, decoding defaults,
detokenising and stop strings. It is the same code for every runtime, so that all of them answer alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from handlers.engines.base import ControlToken, Embeddings, Kept
from handlers.inference.chat_template import Tools
from handlers.inference.decoding_plan import (
    NOTHING_REFUSED,
    Refused,
    check_context,
    check_ids,
    make_plan,
    refuse_embedder,
)
from handlers.inference.output import Detokenizer, LogprobFormatter, TextPiece
from handlers.inference.tokenizer import Rendered, TextTokenizer
from handlers.logprobs import Echo
from handlers.off_loop import MUCH, off_loop
from handlers.runtimes.base import Embedder, Runtime
from handlers.wire import FinishReason, Message, RequestError, Sampling, Usage

MOST_NUMBERS = 4_000_000
"""Most numbers in all vectors of one answer: as JSON they fill most of the largest record."""
MESSAGE_CHARS = 100
"""Characters that a message counts in addition to its text, because a template's loop runs in Python."""


class LoadedModel:
    """One worker's runtime with its tokenizer; makes a `RequestModel` for each request."""

    def __init__(
        self, runtime: Runtime, tokenizer: TextTokenizer, refused: Refused = NOTHING_REFUSED
    ) -> None:
        self.runtime = runtime
        self.tokenizer = tokenizer
        self._refused = refused
        self._kept: dict[type, Any] = {}

    def for_request(self, request_id: str, tools: Tools | None = None) -> RequestModel:
        """The model for one request; its chat prompts describe `tools`."""
        return RequestModel(self.runtime, self.tokenizer, request_id, self._kept, tools, self._refused)


class RequestModel:
    """Implements `handlers.engines.base.Model` for one request, with its `usage` and times."""

    def __init__(
        self,
        runtime: Runtime,
        tokenizer: TextTokenizer,
        request_id: str,
        kept: dict[type, Any],
        tools: Tools | None,
        refused: Refused,
    ) -> None:
        self._kept = kept
        self._tools = tools
        self._refused = refused
        self._runtime = runtime
        self._tokenizer = tokenizer
        self._id = request_id
        self._started = time.monotonic()
        self.context = runtime.context
        self.languages = None if tokenizer.languages is None else frozenset(tokenizer.languages)
        self.pair = tokenizer.pair
        self.usage = Usage()
        self.finish_reason: FinishReason = "stop"
        self.first_token_s: float | None = None

    @property
    def total_s(self) -> float:
        """Seconds since the request arrived."""
        return time.monotonic() - self._started

    async def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str, None]:
        """Pieces of the answer, cut at the first stop string; no piece ends inside a character."""
        refuse_embedder(self._runtime)
        check_context(self._fewest(messages), self.context, counted=False)
        rendered = await self._rendered(messages)
        check_context(rendered.fewest, self.context, counted=False)
        prompt_ids = await off_loop(len(rendered.text), self._tokenizer.encode_rendered, rendered)
        async with aclosing(self._answer(prompt_ids, sampling)) as pieces:
            async for piece in pieces:
                yield piece

    async def translate(
        self, text: str, source: str, target: str, sampling: Sampling
    ) -> AsyncGenerator[str, None]:
        """Pieces of a translation; `source` and `target` are the model's own language codes, or empty."""
        check_context(self._tokenizer.fewest_tokens(text), self.context, counted=False)
        prompt_ids = await off_loop(len(text), self._tokenizer.encode_source, text, source)
        prefix_ids = self._tokenizer.language_ids(target)
        async with aclosing(self._answer(prompt_ids, sampling, prefix_ids)) as pieces:
            async for piece in pieces:
                yield piece

    async def complete(
        self, parts: Sequence[str | ControlToken], sampling: Sampling, ends: Sequence[str] = ()
    ) -> AsyncGenerator[str, None]:
        """Pieces that continue `parts` without a template; RequestError 400 if `parts` are empty."""
        texts = [part for part in parts if isinstance(part, str)]
        check_context(sum(map(self._tokenizer.fewest_tokens, texts)), self.context, counted=False)
        prompt_ids = await off_loop(sum(map(len, texts)), self._encode_parts, parts)
        known = (self._tokenizer.control_id(token) for token in ends)
        end_ids = frozenset(token for token in known if token is not None)
        async with aclosing(self._answer(prompt_ids, sampling, end_ids=end_ids)) as pieces:
            async for piece in pieces:
                yield piece

    async def resume(self, prompt_ids: Sequence[int], sampling: Sampling) -> AsyncGenerator[TextPiece, None]:
        """Pieces that continue exactly these tokens."""
        async with aclosing(self._answer(prompt_ids, sampling)) as pieces:
            async for piece in pieces:
                yield piece

    async def prompt_ids(self, prompt: str | list[int]) -> list[int]:
        """Token ids of a text whose control tokens count as such, or the given ids after a check."""
        if isinstance(prompt, str):
            check_context(self._tokenizer.fewest_tokens(prompt), self.context, counted=False)
            return _not_empty(await off_loop(len(prompt), self._tokenizer.encode_raw, prompt))
        check_context(len(prompt), self.context)
        check_ids(prompt, self._runtime.vocabulary)
        return prompt

    async def echo(self, prompt_ids: Sequence[int], sampling: Sampling) -> Echo:
        """The prompt's text, with log-probabilities if `sampling` asks for them."""
        check_context(len(prompt_ids), self.context)
        rows = LogprobFormatter(self._tokenizer)
        plan = make_plan(sampling, len(prompt_ids), self._runtime, self._refused)
        if not plan.with_logprobs:
            return Echo(text=await off_loop(len(prompt_ids), rows.prompt_text, prompt_ids))
        read = await self._runtime.read(prompt_ids, plan.top_logprobs)
        return await off_loop(len(prompt_ids) * (10 + 10 * plan.top_logprobs), rows.prompt, prompt_ids, read)

    def count_prompt(self, tokens: int) -> None:
        """Counts a prompt that was read without an answer."""
        self.usage += Usage(prompt_tokens=tokens)
        self.finish_reason = "length"

    def has_control(self, token: str) -> bool:
        """True if `token` is a single control token of the model."""
        return self._tokenizer.control_id(token) is not None

    def per_model_cache(self, kind: type[Kept]) -> Kept:
        """The one object of type `kind` of this worker's model, made at first use."""
        if kind not in self._kept:
            self._kept[kind] = kind()
        return self._kept[kind]  # type: ignore[no-any-return]

    async def score(self, prompt: str, continuations: Sequence[str]) -> list[float]:
        """Log-probability of each continuation after the prompt, summed over its tokens."""
        refuse_embedder(self._runtime)
        check_context(self._tokenizer.fewest_tokens(prompt), self.context, counted=False)
        texts = [prompt, *continuations]
        prompt_ids, *ids = await off_loop(
            sum(map(len, texts)), lambda: [self._tokenizer.encode(text) for text in texts]
        )
        longest = len(prompt_ids) + max(map(len, ids), default=0)
        check_context(longest, self.context)
        self.usage += Usage(prompt_tokens=len(prompt_ids))
        return [sum(log_probs) for log_probs in await self._runtime.score(prompt_ids, ids)]

    async def embed(self, inputs: Sequence[str]) -> Embeddings:
        """One vector for each input.

        RequestError 400 for too many inputs, or if it is not an embedding model.
        """
        runtime = self._runtime
        if not isinstance(runtime, Embedder):
            raise RequestError("this model generates text and cannot make embeddings", code="unsupported")
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
        """The number of tokens of `text` in the model's own tokenizer."""
        return self._tokenizer.count(text)

    async def count_chat(self, messages: Sequence[Message]) -> int:
        """The number of prompt tokens of these messages in `stream`, including those of the chat template.

        A lower bound if the messages surely do not fit, because tokenising megabytes takes seconds.
        """
        fewest = self._fewest(messages)
        if fewest >= self.context:
            return fewest
        rendered = await self._rendered(messages)
        if rendered.fewest >= self.context:
            return rendered.fewest
        return len(await off_loop(len(rendered.text), self._tokenizer.encode_rendered, rendered))

    def _fewest(self, messages: Sequence[Message]) -> int:
        return sum(self._tokenizer.fewest_tokens(message.content) for message in messages)

    async def _answer(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        prefix_ids: Sequence[int] = (),
        end_ids: frozenset[int] = frozenset(),
    ) -> AsyncGenerator[TextPiece, None]:
        plan = make_plan(sampling, len(prompt_ids), self._runtime, self._refused)
        plan = replace(plan, prefix_ids=prefix_ids)
        rows = LogprobFormatter(self._tokenizer) if plan.with_logprobs else None
        answer = Detokenizer(self._tokenizer.decoder(), sampling.stop or (), end_ids, rows)
        self.usage += Usage(prompt_tokens=len(prompt_ids))
        async with aclosing(self._runtime.submit(self._id, prompt_ids, plan)) as steps:
            async for step in steps:
                tokens = len(step.token_ids)
                if tokens and self.first_token_s is None:
                    self.first_token_s = self.total_s
                self.usage += Usage(completion_tokens=tokens)
                piece = answer.feed(step)
                if piece or piece.logprobs:
                    yield piece
                if answer.ended or step.finish_reason is not None:
                    self.finish_reason = "stop" if answer.ended else step.finish_reason or "stop"
                    break
        rest = answer.flush()
        if rest or rest.logprobs:
            yield rest

    def _encode_parts(self, parts: Sequence[str | ControlToken]) -> list[int]:
        known = [self._tokenizer.control_id(p.token) if isinstance(p, ControlToken) else p for p in parts]
        return _not_empty(self._tokenizer.encode_bare([part for part in known if part is not None]))

    async def _rendered(self, messages: Sequence[Message]) -> Rendered:
        calls = (call for message in messages for call in message.tool_calls or ())
        size = sum(len(message.content) + MESSAGE_CHARS for message in messages)
        size += sum(len(call.arguments) + MESSAGE_CHARS for call in calls)
        # The size of tools is not known before they are rendered.
        size += MUCH if self._tools else 0
        return await off_loop(size, self._tokenizer.render_chat, messages, self._tools)


def _not_empty(ids: list[int]) -> list[int]:
    if not ids:
        raise RequestError("there is no text to continue", code="empty_prompt", param="prompt")
    return ids
