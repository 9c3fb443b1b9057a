"""Texts on their way through a model, piece by piece, with their layout put back.

Knows how the two kinds of models are asked; not what the pieces are checked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from itertools import islice

from handlers.engines.base import Model
from handlers.off_loop import off_loop
from handlers.text_checks.languages import short_code
from handlers.text_checks.sentences import Segment, segments
from handlers.text_checks.translation_task import Task, language_marks
from handlers.wire import Message, Sampling

AT_ONCE = 8
"""Sentences that a translation model is given together; its runtime makes one batch of them."""

Ask = Callable[[str], list[Message]]
"""The conversation that asks an instructed model for one piece."""


class TranslationPieces:
    """The pieces of one request on their way through the model; `cut` tells that a limit ended one early."""

    def __init__(self, task: Task, model: Model, sampling: Sampling, ask: Ask) -> None:
        self.cut = False
        self._task, self._model, self._sampling, self._ask = task, model, sampling, ask
        self._marks = language_marks(task, model.languages, model.pair)
        self._language = short_code(task.source)

    async def pieces(self, text: str) -> AsyncGenerator[str, None]:
        """One text's translation, white space around every piece as it stood."""
        step = self._as_it_is if self._task.target is None else self._instructed
        if self._marks is not None:
            step = self._batched
        async with aclosing(step(text)) as pieces:
            async for piece in pieces:
                yield piece

    async def _as_it_is(self, text: str) -> AsyncGenerator[str, None]:
        if (sampling := await self._limited(text)) is not None:
            async with aclosing(self._asked(text, sampling)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _instructed(self, text: str) -> AsyncGenerator[str, None]:
        rest = segments(text, self._language, self._fits(4), single=False)
        while (segment := await asyncio.to_thread(next, rest, None)) is not None:
            yield segment.before
            if not _has_letters(segment):
                yield segment.text
            elif (sampling := await self._limited(segment.text)) is not None:
                async with aclosing(self._asked(segment.text, sampling)) as pieces:
                    async for piece in one_line(pieces):
                        yield piece
            yield segment.after

    async def _batched(self, text: str) -> AsyncGenerator[str, None]:
        rest = segments(text, self._language, self._fits(3), single=True)
        while group := await asyncio.to_thread(_next_ones, rest):
            tasks = [asyncio.create_task(self._one(segment)) for segment in group]
            try:
                done = await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            for segment, translated in zip(group, done, strict=True):
                yield f"{segment.before}{translated}{segment.after}"

    async def _one(self, segment: Segment) -> str:
        sampling = await self._limited(segment.text)
        if not _has_letters(segment) or sampling is None:
            return segment.text if sampling else ""
        source, target = self._marks or ("", "")
        async with aclosing(self._model.translate(segment.text, source, target, sampling)) as pieces:
            whole = "".join([piece async for piece in pieces])
        self.cut = self.cut or self._model.finish_reason == "length"
        return whole.strip()

    async def _asked(self, text: str, sampling: Sampling) -> AsyncGenerator[str, None]:
        async with aclosing(self._model.stream(self._ask(text), sampling)) as pieces:
            async for piece in pieces:
                yield piece
        self.cut = self.cut or self._model.finish_reason == "length"

    async def _limited(self, text: str) -> Sampling | None:
        # No translation is three times as long; a model that goes on is lost in a loop.
        limit = 3 * await off_loop(len(text), self._model.count, text) + 64
        if self._sampling.max_tokens is not None:
            limit = min(limit, self._sampling.max_tokens - self._model.usage.completion_tokens)
        if limit < 1:
            self.cut = True
            return None
        return self._sampling.model_copy(update={"max_tokens": limit})

    def _fits(self, part: int) -> Callable[[str], bool]:
        room = self._model.context // part
        return lambda text: len(text) < room or self._model.count(text) < room


async def one_line(pieces: AsyncIterable[str]) -> AsyncIterator[str]:
    """The same text in one line and without outer white space, which the source's layout brings."""
    held, started = "", False
    async for piece in pieces:
        text = held + piece
        text = text if started else text.lstrip()
        body = text.rstrip()
        held = text[len(body) :]
        if body:
            started = True
            first, *lines = body.split("\n")
            middle = [line.strip() for line in lines[:-1] if line.strip()]
            yield " ".join([first.rstrip(), *middle, lines[-1].lstrip()]) if lines else body


def _next_ones(rest: Iterator[Segment]) -> list[Segment]:
    return list(islice(rest, AT_ONCE))


def _has_letters(segment: Segment) -> bool:
    return any(character.isalpha() for character in segment.text)
