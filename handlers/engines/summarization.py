"""Summarisation: a text that fits is one call; a longer one is summarised in parts, then their summaries."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from handlers.engines._documents import counted, parts, room_for
from handlers.engines.base import Attempt, BaseLLMEngine, EngineOptions, EnginePrompt, Model, read_options
from handlers.wire import GenerateRequest, Message, Sampling

LENGTHS = {"short": "two or three sentences", "medium": "one paragraph", "long": "several paragraphs"}
STYLES = {
    "paragraph": "as running text",
    "bullets": "as a list of bullet points, one fact each",
    "headline": "as a headline of at most fifteen words",
    "executive": "for a decision maker: what it is about, what matters, what to decide",
}
MOST_WORDS = {"short": 120, "medium": 250, "long": 800}
ROUNDS = 5
"""Most rounds of summaries of summaries: a model that does not shorten would go on for ever."""


class SummaryOptions(EngineOptions):
    """`options` of this engine."""

    document: Annotated[
        str | None,
        Field(min_length=1, max_length=4_000_000, description="text to summarise; default: the prompt"),
    ] = None
    length: Annotated[Literal["short", "medium", "long"], Field(description="length of the summary")] = (
        "medium"
    )
    style: Annotated[
        Literal["paragraph", "bullets", "headline", "executive"], Field(description="form of the summary")
    ] = "paragraph"


class Summarization(BaseLLMEngine):
    """Summarises a document longer than the context in parts; the finding `chunks` is their number."""

    name: ClassVar[str] = "summarization"
    system_prompt: ClassVar[str] = (
        "You summarise texts. Keep to what the text says, with its names and numbers; add nothing."
    )
    defaults: ClassVar[Sampling] = Sampling(max_tokens=512, temperature=0.2, top_p=0.95)
    options_type: ClassVar[type[EngineOptions]] = SummaryOptions
    run_findings: ClassVar[Mapping[str, Any]] = {"chunks": 1}

    def get_system_prompt(self, request: GenerateRequest) -> str:
        """The engine's prompt with the length and the style of the summary."""
        options = read_options(SummaryOptions, request)
        return f"{self.system_prompt} Write {LENGTHS[options.length]}, {STYLES[options.style]}."

    def prepare(self, request: GenerateRequest) -> EnginePrompt:
        """The conversation about the whole text; `run` reads a long text in parts."""
        whole = super().prepare(request)
        return EnginePrompt(self._asking(whole, request, _text(request)), whole.sampling)

    async def run(self, request: GenerateRequest, model: Model) -> AsyncGenerator[str | Attempt, None]:
        """Pieces of the summary, after the parts were summarised."""
        whole = await self.prepared(request)
        room = room_for(
            model, f"{self.get_system_prompt(request)} {request.system or ''}", whole.sampling.max_tokens
        )
        fits = counted(model, room.part)
        sampling = whole.sampling.model_copy(update={"max_tokens": room.answer})
        text = _text(request)
        pieces = await asyncio.to_thread(parts, text, fits)
        self.notes["chunks"] = len(pieces)
        for _ in range(ROUNDS):
            if len(pieces) == 1:
                break
            summaries = []
            for part in pieces:
                async with aclosing(model.stream(self._asking(whole, request, part), sampling)) as answer:
                    summaries.append("".join([text async for text in answer]))
            pieces = await asyncio.to_thread(parts, "\n\n".join(summaries), fits)
        messages = self._asking(whole, request, pieces[0])
        async with aclosing(model.stream(messages, sampling)) as answer:
            async for piece in answer:
                yield piece

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """The number of words, and warnings about the length and about numbers that are not in the text."""
        self.accept(request)
        options, source = read_options(SummaryOptions, request), _text(request)
        words = len(text.split())
        there = set(_numbers(source))
        # A single digit is more often the number of a list item than a claim.
        new = dict.fromkeys(one for one in _numbers(text) if one not in there and len(one) > 1)
        warnings = [f"number not in the text: {number}" for number in new]
        if words > MOST_WORDS[options.length]:
            warnings.append(f"length: {words} words is too long for a {options.length} summary")
        if source and words >= len(source.split()):
            warnings.append("length: the summary is not shorter than the text")
        return {**self.run_findings, "words": words, "warnings": warnings}

    def unknown(self, reason: str) -> dict[str, Any]:
        """Findings without the number of words."""
        return {**self.run_findings, "words": None, "warnings": [reason]}

    def _asking(self, whole: EnginePrompt, request: GenerateRequest, text: str) -> list[Message]:
        system = [message for message in whole.messages if message.role == "system"]
        asked = request.turns[-1].content
        wish = f"\n\n{asked}" if asked and "document" in request.options else ""
        return [*system, Message(role="user", content=f"Text:\n\n{text}{wish}")]


def _text(request: GenerateRequest) -> str:
    return read_options(SummaryOptions, request).document or request.turns[-1].content


def _numbers(text: str) -> list[str]:
    return [number.replace(",", "") for number in re.findall(r"\d+(?:[.,]\d+)*", text)]
