"""What a translation request asks for: which texts, from which language into which.

Knows options and languages; no model but the codes that it knows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from handlers.engines.base import EngineOptions, asked_last, read_options
from handlers.text_checks.languages import (
    detect_language,
    english_name,
    individual,
    is_same_language,
    known_as,
    language_code,
)
from handlers.text_checks.refusals import bad_option
from handlers.wire import GenerateRequest

IN_WORDS = re.compile(
    r"(?:please\s++)?translate\b[^:\n]{0,60}?\b(?:in)?to\s++(?:the\s++)?(?P<target>[\w ()-]{2,40})",
    re.IGNORECASE,
)
"""What stands before the colon, and the language that it names."""


class TranslationOptions(EngineOptions):
    """`options` of the engine."""

    source: Annotated[
        str | None, Field(description="the language of the text: a FLORES or ISO code, or its English name")
    ] = None
    target: Annotated[str | None, Field(description="the language to translate into, named likewise")] = None
    formality: Literal["formal", "informal"] | None = Field(
        default=None, alias="register", description="how people are addressed"
    )
    inputs: Annotated[
        list[str] | None,
        Field(min_length=1, max_length=1000, description="texts; the answer is a JSON list in their order"),
    ] = None


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be translated; languages as `fra_Latn`, None where nobody said and nothing told.

    `source` is the `stated` one, or the `detected` one.
    """

    texts: Sequence[str]
    stated: str | None
    source: str | None
    target: str | None
    detected: str | None
    formality: str | None
    batch: bool


def read_task(request: GenerateRequest) -> Task:
    """What `request` asks for; RequestError 400 names the option that is no language."""
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
    """The text behind `translate to French:` and that language; else the whole prompt."""
    words, _, text = prompt.partition(":")
    worded = IN_WORDS.fullmatch(words.strip()) if text else None
    code = language_code(worded["target"]) if worded else None
    return (text.lstrip() or text, code) if code else (prompt, None)


def _code(option: str, name: str | None) -> str | None:
    code = language_code(name) if name is not None else None
    if name is not None and code is None:
        raise bad_option(
            option, "no such language; give a FLORES code (fra_Latn), an ISO code or an English name"
        )
    return code


def language_marks(
    task: Task, known: frozenset[str] | None, pair: tuple[str, str] | None
) -> tuple[str, str] | None:
    """The model's own codes of both languages; empty for a model of one pair, None for one that is told."""
    if known is None:
        if task.batch and task.target is None:
            raise bad_option("target", "inputs need a target language")
        return None
    if task.formality is not None:
        raise bad_option("register", "this model only translates and knows no registers")
    if not known:
        _within(task, pair)
        return "", ""
    return _mark("source", task.source, known), _mark("target", task.target, known)


def _within(task: Task, pair: tuple[str, str] | None) -> None:
    named = (("source", task.stated), ("target", task.target))
    for (option, asked), name in zip(named, pair or (), strict=False):
        own = individual(name)
        if asked and own and not is_same_language(asked, own):
            does = " into ".join(english_name(individual(one) or one) for one in pair or ())
            raise bad_option(option, f"this model translates {does} and does not know {english_name(asked)}")


def _mark(option: str, code: str | None, known: frozenset[str]) -> str:
    if code is None:
        raise bad_option(option, "this model must be told the language")
    found = known_as(code, known)
    if found is None:
        raise bad_option(
            option, f"this model does not know {english_name(code)}; it knows {', '.join(sorted(known))}"
        )
    return found
