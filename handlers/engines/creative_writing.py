"""Creative writing: form, tone, length and point of view become instructions; the result is measured."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from handlers.engines.base import BaseLLMEngine, EngineOptions, EnginePrompt, read_options
from handlers.wire import GenerateRequest, Message, Sampling

Form = Literal[
    "story", "poem", "haiku", "sonnet", "limerick", "dialogue", "scene", "essay", "letter", "lyrics"
]  # fmt: skip
View = Literal["first", "second", "third_limited", "third_omniscient"]
VIEWS: dict[View, str] = {
    "first": "in the first person",
    "second": "in the second person",
    "third_limited": "in the third person, knowing one character's mind",
    "third_omniscient": "in the third person, knowing everything",
}
LENGTHS = {"short": 200, "medium": 500, "long": 1200}


class WritingOptions(EngineOptions):
    """`options` of this engine."""

    form: Annotated[Form | None, Field(description="kind of text to write")] = None
    tone: Annotated[
        str | None,
        Field(min_length=1, max_length=100, description="tone, in your own words, such as playful"),
    ] = None
    length: Annotated[
        Literal["short", "medium", "long"] | Annotated[int, Field(ge=10, le=20_000)] | None,
        Field(
            description="length: short, medium or long (about 200, 500 or 1200 words), or a number of words"
        ),
    ] = None
    point_of_view: Annotated[View | None, Field(description="narrative point of view")] = None
    continue_from: Annotated[
        str | None, Field(min_length=1, max_length=400_000, description="text to continue")
    ] = None


class CreativeWriting(BaseLLMEngine):
    """Writes only the text that was asked for: no title, no comment."""

    name: ClassVar[str] = "creative_writing"
    system_prompt: ClassVar[str] = "You are a writer with a voice of your own. Be concrete and avoid clichés."
    defaults: ClassVar[Sampling] = Sampling(
        max_tokens=1024, temperature=1.0, top_p=0.95, repetition_penalty=1.1
    )
    options_type: ClassVar[type[EngineOptions]] = WritingOptions

    def get_system_prompt(self, request: GenerateRequest) -> str:
        """One sentence for every option."""
        options = read_options(WritingOptions, request)
        sentences = [self.system_prompt]
        if options.form:
            sentences.append(f"Write a {options.form}.")
        if options.tone:
            sentences.append(f"The tone is {options.tone}.")
        if (words := _words(options)) is not None:
            sentences.append(f"Write about {words} words.")
        if options.point_of_view:
            sentences.append(f"Tell it {VIEWS[options.point_of_view]}.")
        if options.continue_from:
            sentences.append(
                "Continue the given text in its voice, from where it stops, without repeating it."
            )
        return " ".join(sentences)

    def prepare(self, request: GenerateRequest) -> EnginePrompt:
        """The conversation; a text to continue follows the request in the last message."""
        whole = super().prepare(request)
        given = read_options(WritingOptions, request).continue_from
        if given is None:
            return whole
        *before, last = whole.messages
        asked = Message(role="user", content=f"{last.content}\n\nThe text so far:\n\n{given}")
        return EnginePrompt([*before, asked], whole.sampling)

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """The number of words, and checks of form and length against the request."""
        self.accept(request)
        options = read_options(WritingOptions, request)
        words, wanted = len(text.split()), _words(options)
        warnings = []
        if wanted is not None and not wanted / 2 <= words <= wanted * 2:
            warnings.append(f"length: {words} words; about {wanted} were requested")
        lines = [line for line in text.splitlines() if line.strip()]
        expected = {"haiku": 3, "limerick": 5, "sonnet": 14}.get(options.form or "")
        if expected is not None and len(lines) != expected:
            warnings.append(f"form: a {options.form} has {expected} lines, this has {len(lines)}")
        if options.continue_from and text.strip().startswith(options.continue_from.strip()[:200]):
            warnings.append("continuation: the answer repeats the given text")
        return {"words": words, "warnings": warnings}

    def unknown(self, reason: str) -> dict[str, Any]:
        """Findings without the number of words."""
        return {"words": None, "warnings": [reason]}


def _words(options: WritingOptions) -> int | None:
    return LENGTHS[options.length] if isinstance(options.length, str) else options.length
