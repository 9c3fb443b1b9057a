"""Translation: line by line and sentence by sentence, so that no sentence is lost and the layout is kept.

A model with language tokens (NLLB) or of one pair (Marian) gets sentences, any other an instruction.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any, ClassVar

from handlers.checks.text.json_answers import read_json
from handlers.checks.text.languages import english_name, is_other_language, language_code
from handlers.checks.text.translations import translation_warnings
from handlers.engines._translation import Task, TranslationOptions, TranslationPieces, read_task
from handlers.engines.base import Attempt, BaseLLMEngine, EngineOptions, EnginePrompt, Model
from handlers.wire import GenerateRequest, Message, Sampling


class Translation(BaseLLMEngine):
    """Translates the text of a request; without a target language the prompt itself is the instruction."""

    name: ClassVar[str] = "translation"
    system_prompt: ClassVar[str] = "You are a professional translator."
    defaults: ClassVar[Sampling] = Sampling(temperature=0.0)
    options_type: ClassVar[type[EngineOptions]] = TranslationOptions
    libraries: ClassVar[tuple[str, ...]] = ("handlers.checks.text.languages",)

    @classmethod
    def load_libraries(cls) -> None:
        """Also loads the language detector: half a second, and 60 MB that all children share."""
        super().load_libraries()
        for text in ("A short text.", "A text of some length, in any language. " * 5):
            is_other_language(text * 2, "fra_Latn")
        english_name("fra_Latn"), language_code("Deutsch")

    def get_system_prompt(self, request: GenerateRequest) -> str:
        """The instruction: source and target language, register, and to write nothing but the translation."""
        task = read_task(request)
        if task.target is None:
            return f"{self.system_prompt} Answer with the translation alone."
        source = f" from {english_name(task.source)}" if task.source else ""
        tone = f" Use the {task.formality} register throughout." if task.formality else ""
        return (
            f"{self.system_prompt} Translate the user's text{source} into {english_name(task.target)}.{tone} "
            "Leave nothing out and add nothing. Answer with the translation alone."
        )

    def accept(self, request: GenerateRequest) -> None:
        """Also refuses unknown languages."""
        super().accept(request)
        read_task(request)

    def prepare(self, request: GenerateRequest) -> EnginePrompt:
        """The conversation about the whole text; `run` asks for each piece."""
        whole, task = super().prepare(request), read_task(request)
        return EnginePrompt(self._asking(whole, task.texts[0]), whole.sampling, asdict(task))

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """The languages, each translation, and warnings about it."""
        self.accept(request)
        task = read_task(request)
        translations: list[str] | None = [text]
        if task.batch:
            try:
                found = read_json(text)
            except ValueError:
                found = None
            is_texts = isinstance(found, list) and all(isinstance(one, str) for one in found)
            translations = found if is_texts else None
        return {
            "source": task.source,
            "target": task.target,
            "detected": task.detected,
            "translations": translations or [],
            "warnings": list(_warnings(task, translations)),
        }

    def unknown(self, reason: str) -> dict[str, Any]:
        """Findings without languages and translations."""
        nobody = dict.fromkeys(("source", "target", "detected"))
        return {**nobody, "translations": [], "warnings": [reason]}

    async def run(self, request: GenerateRequest, model: Model) -> AsyncGenerator[str | Attempt, None]:
        """Pieces of the translation, or of a JSON list of translations."""
        whole = await self.prepared(request)
        task = Task(**whole.facts)
        work = TranslationPieces(task, model, whole.sampling, lambda text: self._asking(whole, text))
        for index, text in enumerate(task.texts):
            async with aclosing(work.pieces(text)) as pieces:
                if task.batch:
                    joined = "".join([piece async for piece in pieces])
                    yield f"{', ' if index else '['}{json.dumps(joined, ensure_ascii=False)}"
                else:
                    async for piece in pieces:
                        yield piece
        if task.batch:
            yield "]"
        if work.cut:
            model.finish_reason = "length"

    def _asking(self, whole: EnginePrompt, text: str) -> list[Message]:
        system = [message for message in whole.messages if message.role == "system"]
        return [*system, Message(role="user", content=text)]


def _warnings(task: Task, translations: list[str] | None) -> list[str]:
    if translations is None:
        return ["form: the answer is not a JSON list of texts"]
    if task.target is None:
        return ["target: no target language was given, so nothing could be checked"]
    found = (
        []
        if len(translations) == len(task.texts)
        else [f"count: {len(task.texts)} texts, {len(translations)} translations"]
    )
    for index, (source, translation) in enumerate(zip(task.texts, translations, strict=False)):
        where = f"input {index}: " if task.batch else ""
        found += [
            where + warning for warning in translation_warnings(source, translation, task.source, task.target)
        ]
    return found
