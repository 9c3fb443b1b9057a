"""Legal analysis: reviews a document clause by clause and looks up every quotation in it.

A request with a task gets JSON by a schema. The findings note that the answer is a machine's opinion.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import Field

from handlers.checks.text.json_answers import read_items
from handlers.checks.text.legal_terms import CLAUSES, NOTE, REGULATIONS, Area, Task, item_schema
from handlers.checks.text.quotes import SourceText, affordable, quotations
from handlers.engines._documents import counted, item_list, parts, room_for
from handlers.engines.base import Attempt, BaseLLMEngine, EngineOptions, EnginePrompt, Model, read_options
from handlers.wire import GenerateRequest, Message, Sampling, bad_option

INSTRUCTIONS: dict[Task, str] = {
    "review": "List the clauses that a careful lawyer would raise, each with its issue and a recommendation.",
    "risk": "List the risks, each with the clause it comes from, its likelihood and its severity.",
    "compliance": "For each requirement say whether the document meets it, with an explanation.",
    "clauses": f"Extract the clauses of these kinds, no others: {', '.join(CLAUSES)}.",
}
Text = Annotated[str, Field(min_length=1, max_length=4_000_000)]


class LegalOptions(EngineOptions):
    """`options` of this engine."""

    task: Annotated[
        Task | None, Field(description="task to perform; default: review, if a document is given")
    ] = None
    document: Annotated[Text | None, Field(description="document to analyse; default: the prompt")] = None
    area: Annotated[Area | None, Field(description="area of law")] = None
    jurisdiction: Annotated[
        str | None, Field(min_length=1, max_length=200, description="country or state whose law applies")
    ] = None
    regulation: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=100_000,
            description="rules for a compliance check: GDPR, HIPAA, CCPA, SOX, or the text of a rule",
        ),
    ] = None


class LegalAnalysis(BaseLLMEngine):
    """Answers a task with JSON, a document alone with a review, a prompt alone with prose."""

    name: ClassVar[str] = "legal_analysis"
    system_prompt: ClassVar[str] = (
        "You are a careful legal analyst. Quote the document word for word, in double quotation marks, and "
        "never quote what does not stand in it. Say so where it is silent. You give no legal advice."
    )
    defaults: ClassVar[Sampling] = Sampling(max_tokens=1024, temperature=0.2, top_p=0.95)
    options_type: ClassVar[type[EngineOptions]] = LegalOptions

    def get_system_prompt(self, request: GenerateRequest) -> str:
        """The role for the given area and jurisdiction, then the task."""
        options = read_options(LegalOptions, request)
        sentences = [self.system_prompt]
        if options.area:
            sentences.append(f"The area of law is {options.area.replace('_', ' ')}.")
        if options.jurisdiction:
            sentences.append(f"The jurisdiction is {options.jurisdiction}.")
        if task := _task(options):
            sentences += [
                INSTRUCTIONS[task],
                'Answer in JSON: {"items": [...]}; each item quotes the document.',
            ]
        if options.regulation:
            name = options.regulation.strip().upper()
            rule = f"{name}: {REGULATIONS[name]}" if name in REGULATIONS else options.regulation
            sentences.append(f"The requirements: {rule}.")
        return " ".join(sentences)

    def accept(self, request: GenerateRequest) -> None:
        """Also refuses a compliance check without a rule."""
        super().accept(request)
        options = read_options(LegalOptions, request)
        if options.task == "compliance" and options.regulation is None:
            raise bad_option(
                "regulation",
                f"a compliance check needs one of {', '.join(REGULATIONS)}, or the text of a rule",
            )

    def prepare(self, request: GenerateRequest) -> EnginePrompt:
        """The conversation about the whole document; `run` cuts a long one into parts."""
        whole = super().prepare(request)
        task, document = _asked(request)
        if task is None:
            return whole
        sampling = whole.sampling
        if sampling.json_schema is None:
            sampling = sampling.model_copy(update={"json_schema": item_schema(task)})
        return EnginePrompt(_about(whole.messages, _question(request), document, 1, 1), sampling)

    async def run(self, request: GenerateRequest, model: Model) -> AsyncGenerator[str | Attempt, None]:
        """Prose, or one JSON object over all parts of the document."""
        prepared = await self.prepared(request)
        task, document = _asked(request)
        if task is None:
            events = model.stream(prepared.messages, prepared.sampling)
        else:
            spoken = f"{self.get_system_prompt(request)} {request.system or ''} {_question(request)}"
            room = room_for(model, spoken, prepared.sampling.max_tokens)
            pieces = await asyncio.to_thread(parts, document, counted(model, room.part))
            ask = partial(_about, prepared.messages, _question(request))
            sampling = prepared.sampling.model_copy(update={"max_tokens": room.answer})
            events = item_list(model, pieces, ask, sampling)
        async with aclosing(events):
            async for piece in events:
                yield piece

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """The items and a look-up of each quotation in the document.

        `items` is null for an incomplete answer.
        """
        self.accept(request)
        task, document = _asked(request)
        items = read_items(text) if task else []
        if items:
            # A requirement that the document does not meet has an empty quote.
            spoken = [item["quote"] for item in items if isinstance(item.get("quote"), str)]
            quotes = [quote for quote in spoken if quote.strip()]
        else:
            # In a broken JSON answer every string is between quotation marks.
            is_json = text.lstrip().startswith(("{", "[", "```"))
            quotes = [] if is_json else quotations(text)
        read = affordable(quotes, len(document)) if document else []
        source = SourceText(document if read else "")
        found: list[dict[str, Any]] = []
        for quote in read:
            start = source.locate(quote)
            found.append({"text": quote, "found": start is not None, "start": start})
        warnings = [f"quote not in the document: {one['text']!r}" for one in found if not one["found"]]
        if document and len(read) < len(quotes):
            warnings.append(f"only the first {len(read)} quotations were checked")
        if items is None:
            warnings.insert(0, "the answer is not valid JSON, or was cut off")
        return {"items": items, "quotes": found, "note": NOTE, "warnings": warnings}

    def unknown(self, reason: str) -> dict[str, Any]:
        """Findings without items and quotations."""
        return {"items": None, "quotes": [], "note": NOTE, "warnings": [reason]}


def _task(options: LegalOptions) -> Task | None:
    return options.task or ("review" if options.document else None)


def _asked(request: GenerateRequest) -> tuple[Task | None, str]:
    options = read_options(LegalOptions, request)
    return _task(options), options.document or request.turns[-1].content


def _question(request: GenerateRequest) -> str:
    return request.turns[-1].content if "document" in request.options else ""


def _about(messages: list[Message], question: str, part: str, number: int, count: int) -> list[Message]:
    system = [message for message in messages if message.role == "system"]
    place = f" (part {number} of {count})" if count > 1 else ""
    asked = f"\n\n{question}" if question else ""
    return [*system, Message(role="user", content=f"Document{place}:\n\n{part}{asked}")]
