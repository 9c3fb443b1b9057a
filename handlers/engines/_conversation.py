"""Fits conversations into the context: whole turns are left out, the oldest first, and no message is cut.

Knows messages and a model that counts them. The history may come from a client or from a gateway session.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from handlers.engines.base import Attempt, BaseLLMEngine, EngineOptions, Model, read_options
from handlers.wire import GenerateRequest, Message, Sampling

Exchange = list[Message]
"""One turn: the user's messages and the answers to them."""

_CHARS_A_TOKEN = 8
"""More characters per token than text usually has; a longer history is not tried as a whole."""


class ConversationOptions(EngineOptions):
    """Options of every engine that answers conversations."""

    history_tokens: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="maximum number of tokens of earlier turns; default: as many as fit in the context",
    )


@dataclass(frozen=True, slots=True)
class Fitted:
    """The messages to send, the number of turns in them (the new one included), and of dropped turns."""

    messages: list[Message]
    turns: int
    dropped: int


class ConversationEngine(BaseLLMEngine):
    """An engine that answers the last turn of a conversation with as much of the rest as fits."""

    converses: ClassVar[bool] = True
    reads_text: ClassVar[bool] = False
    options_type: ClassVar[type[EngineOptions]] = ConversationOptions
    run_findings: ClassVar[Mapping[str, Any]] = {"turns": 1, "dropped_turns": 0}

    async def run(self, request: GenerateRequest, model: Model) -> AsyncGenerator[str | Attempt, None]:
        """Pieces of the answer; `notes` has the numbers of turns that were sent and dropped."""
        prepared = await self.prepared(request)
        most = read_options(ConversationOptions, request).history_tokens
        fitted = await fit(prepared.messages, model, reserve(prepared.sampling, model.context), most)
        self.notes = {"turns": fitted.turns, "dropped_turns": fitted.dropped}
        async with aclosing(model.stream(fitted.messages, prepared.sampling)) as pieces:
            async for piece in pieces:
                yield piece


def reserve(sampling: Sampling, context: int) -> int:
    """Tokens that are kept free for the answer: `max_tokens`, but never more than half of the context."""
    return min(sampling.max_tokens or context, context // 2)


def exchanges(messages: Sequence[Message]) -> list[Exchange]:
    """The conversation in turns; a turn begins at a user message that follows a message of another role."""
    turns: list[Exchange] = []
    before = None
    for message in messages:
        if not turns or (message.role == "user" and before != "user"):
            turns.append([])
        turns[-1].append(message)
        before = message.role
    return turns


async def fit(messages: Sequence[Message], model: Model, free: int, history_tokens: int | None) -> Fitted:
    """Fits system messages, the last turn and as many turns before it as leave `free` tokens of the context.

    The last turn stays even if it does not fit; the model then refuses it with both token counts.
    """
    system = [message for message in messages if message.role == "system"]
    *history, last = exchanges([message for message in messages if message.role != "system"]) or [[]]

    def with_last(turns: int) -> list[Message]:
        kept = history[len(history) - turns :]
        return [*system, *(message for turn in kept for message in turn), *last]

    kept = 0
    if history:
        limit = model.context - free
        if history_tokens is not None:
            limit = min(limit, await model.count_chat(with_last(0)) + history_tokens)

        async def fits(turns: int) -> bool:
            return await model.count_chat(with_last(turns)) <= limit

        is_short = sum(len(message.content) for message in messages) <= limit * _CHARS_A_TOKEN
        kept = len(history) if is_short and await fits(len(history)) else await most(len(history), fits)
    return Fitted(with_last(kept), kept + bool(last), len(history) - kept)


async def most(highest: int, fits: Callable[[int], Awaitable[bool]]) -> int:
    """The highest number up to `highest` that fits, 0 if none does.

    All numbers below one that fits must fit too. Tries small numbers first, because a history may be a
    hundred times longer than the context.
    """
    low, step = 0, 1
    while low < highest and await fits(min(low + step, highest)):
        low, step = min(low + step, highest), 2 * step
    high = min(low + step, highest + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if await fits(middle):
            low = middle
        else:
            high = middle
    return low
