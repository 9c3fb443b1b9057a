"""Question answering over given passages; every quotation of the answer must be in one of them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from handlers.checks.text.quotes import SourceText, affordable, quotations
from handlers.engines.base import BaseLLMEngine, EngineOptions, EnginePrompt, read_options
from handlers.wire import GenerateRequest, Message, Sampling

Passage = Annotated[str, Field(min_length=1, max_length=1_000_000)]


class AnswerOptions(EngineOptions):
    """`options` of this engine."""

    passages: Annotated[
        list[Passage] | None,
        Field(
            min_length=1,
            max_length=1000,
            description="texts to answer from and to quote; default: none, the model answers from memory",
        ),
    ] = None


class QuestionAnswering(BaseLLMEngine):
    """Answers from the given passages alone; without passages from the model's own knowledge."""

    name: ClassVar[str] = "question_answering"
    system_prompt: ClassVar[str] = "You answer questions briefly. Say so when you do not know."
    defaults: ClassVar[Sampling] = Sampling(max_tokens=512, temperature=0.1, top_p=0.95)
    options_type: ClassVar[type[EngineOptions]] = AnswerOptions

    def get_system_prompt(self, request: GenerateRequest) -> str:
        """The engine's prompt; with passages, also the instruction to use and quote only them."""
        if not _passages(request):
            return self.system_prompt
        return (
            f"{self.system_prompt} Use nothing but the passages. Support the answer with a word-for-word "
            "quotation in double quotation marks and the number of its passage. If they do not answer it, "
            "say that they do not."
        )

    def prepare(self, request: GenerateRequest) -> EnginePrompt:
        """The conversation with the passages, numbered from 1, before the question."""
        whole = super().prepare(request)
        passages = "\n\n".join(f"[{n}] {text}" for n, text in enumerate(_passages(request), start=1))
        if not passages:
            return whole
        *before, last = whole.messages
        asked = Message(role="user", content=f"Passages:\n\n{passages}\n\nQuestion: {last.content}")
        return EnginePrompt([*before, asked], whole.sampling)

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """Every quotation with the index (from 0) of the passage that has it, or null."""
        self.accept(request)
        passages = _passages(request)
        written = quotations(text) if passages else []
        read = affordable(written, sum(map(len, passages)))
        sources = [SourceText(passage) for passage in passages] if read else []
        quotes: list[dict[str, Any]] = []
        for quote in read:
            at = next((n for n, source in enumerate(sources) if source.locate(quote) is not None), None)
            quotes.append({"text": quote, "found": at is not None, "passage": at})
        missing = [f"quote not in any passage: {quote['text']!r}" for quote in quotes if not quote["found"]]
        if len(read) < len(written):
            missing.append(f"only the first {len(read)} quotations were checked")
        if passages and not quotes:
            missing.append("the answer does not quote any passage")
        return {"quotes": quotes, "warnings": missing}

    def unknown(self, reason: str) -> dict[str, Any]:
        """Findings without quotations."""
        return {"quotes": [], "warnings": [reason]}


def _passages(request: GenerateRequest) -> list[str]:
    return read_options(AnswerOptions, request).passages or []
