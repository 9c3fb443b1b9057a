"""Translation: reads texts and languages of a request, and translates the texts piece by piece.

Knows how to ask the two kinds of models, and restores the layout; the engine checks the result.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Literal

from pydantic import Field

from handlers.checks.text.languages import (
    detect_language,
    english_name,
    individual,
    is_same_language,
    known_as,
    language_code,
    short_code,
)
from handlers.checks.text.sentences import Segment, segments
from handlers.engines.base import EngineOptions, Model, asked_last, read_options
from handlers.off_loop import off_loop
from handlers.wire import GenerateRequest, Message, Sampling, bad_option

IN_WORDS = re.compile(
    r"(?:please\s++)?translate\b[^:\n]{0,60}?\b(?:in)?to\s++(?:the\s++)?(?P<target>[\w ()-]{2,40})",
    re.IGNORECASE,
)
"""The instruction before the colon, with the language that it names."""

AT_ONCE = 8
"""Sentences that a translation model gets together; its runtime makes one batch of them."""

Ask = Callable[[str], list[Message]]
"""Makes the conversation that asks an instruction model to translate one piece."""


class TranslationOptions(EngineOptions):
    """`options` of the engine."""

    source: Annotated[
        str | None,
        Field(
            description="language of the text, as a FLORES or ISO code or an English name; default: detected"
        ),
    ] = None
    target: Annotated[str | None, Field(description="language to translate into, in the same forms")] = None
    formality: Literal["formal", "informal"] | None = Field(
        default=None, alias="register", description="how the translation addresses its readers"
    )
    inputs: Annotated[
        list[str] | None,
        Field(
            min_length=1,
            max_length=1000,
            description="texts to translate; the answer is a JSON list in the same order",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Task:
    """A translation to make; languages as `fra_Latn`, None if neither stated nor detected.

    `source` is the stated language, else the detected one.
    """

    texts: Sequence[str]
    stated: str | None
    source: str | None
    target: str | None
    detected: str | None
    formality: str | None
    batch: bool


def read_task(request: GenerateRequest) -> Task:
    """The translation that `request` asks for.

    RequestError 400 names an option that is not a known language.
    """
    options = read_options(TranslationOptions, request)
    source, target = _code("source", options.source), _code("target", options.target)
    prompt = asked_last(request)
    if target is None and options.inputs is None:
        prompt, target = _in_words(prompt)
    texts = [prompt] if options.inputs is None else options.inputs
    detected = detect_language("\n".join(texts))
    return Task(
        texts, source, source or detected, target, detected, options.formality, options.inputs is not None
    )


def _in_words(prompt: str) -> tuple[str, str | None]:
    """The text after `translate to French:` and that language; else the whole prompt and None."""
    words, _, text = prompt.partition(":")
    worded = IN_WORDS.fullmatch(words.strip()) if text else None
    code = language_code(worded["target"]) if worded else None
    return (text.lstrip() or text, code) if code else (prompt, None)


def _code(option: str, name: str | None) -> str | None:
    code = language_code(name) if name is not None else None
    if name is not None and code is None:
        raise bad_option(
            option, "unknown language; give a FLORES code (fra_Latn), an ISO code or an English name"
        )
    return code


def language_marks(
    task: Task, known: frozenset[str] | None, pair: tuple[str, str] | None
) -> tuple[str, str] | None:
    """The model's own codes of both languages.

    Empty for a model of one pair, None for an instruction model.
    """
    if known is None:
        if task.batch and task.target is None:
            raise bad_option("target", "inputs need a target language")
        return None
    if task.formality is not None:
        raise bad_option("register", "this model does not support registers")
    if not known:
        named = (("source", task.stated), ("target", task.target))
        for (option, asked), name in zip(named, pair or (), strict=False):
            own = individual(name)
            if asked and own and not is_same_language(asked, own):
                does = " into ".join(english_name(individual(one) or one) for one in pair or ())
                raise bad_option(
                    option, f"this model translates {does}; it does not support {english_name(asked)}"
                )
        return "", ""
    return _mark("source", task.source, known), _mark("target", task.target, known)


def _mark(option: str, code: str | None, known: frozenset[str]) -> str:
    if code is None:
        raise bad_option(option, "this model needs the language to be given")
    found = known_as(code, known)
    if found is None:
        raise bad_option(
            option,
            f"this model does not support {english_name(code)}; it supports {', '.join(sorted(known))}",
        )
    return found


class TranslationPieces:
    """Translates the pieces of one request; `cut` is True if a token limit ended a piece early."""

    def __init__(self, task: Task, model: Model, sampling: Sampling, ask: Ask) -> None:
        self.cut = False
        self._task, self._model, self._sampling, self._ask = task, model, sampling, ask
        self._marks = language_marks(task, model.languages, model.pair)
        self._language = short_code(task.source)

    async def pieces(self, text: str) -> AsyncGenerator[str, None]:
        """The translation of one text, with the original white space around every piece."""
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
        # No translation is three times as long as its source; a model that goes on repeats itself.
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
    """The text in one line without outer white space; the source's own white space is added later."""
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
