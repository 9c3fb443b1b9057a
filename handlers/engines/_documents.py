"""Splits long documents at clauses and paragraphs into parts that fit the context, and asks about each part.

Knows the free tokens of a model's context; the engine writes the question about a part.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise

from handlers.checks.text.json_answers import read_items
from handlers.checks.text.sentences import packed, sentences
from handlers.engines.base import Model
from handlers.wire import Message, Sampling

# A clause begins a line: 1. / 2.3 / (a) / § 4 / Article 5 / AN UPPER-CASE HEADING; or follows a blank line.
CLAUSE = re.compile(
    r"(?m)^(?=[ \t]*(?:\d{1,3}(?:\.\d{1,3})*[.)]?[ \t]+\S|\([a-z\d]{1,4}\)[ \t]|§|"
    r"(?:ARTICLE|Article|SECTION|Section|CLAUSE|Clause|SCHEDULE|Schedule)[ \t]+[\dIVXA-Z]|"
    r"[A-Z][A-Z ,&-]{5,80}$))|(?<=\n\n)(?=\S)"
)
MARGIN = 64
"""Tokens that a chat template adds to those counted here."""

Fits = Callable[[str], bool]
Ask = Callable[[str, int, int], list[Message]]
"""Makes the conversation about a part from its text, its number (from 1) and the number of parts."""


@dataclass(frozen=True, slots=True)
class Room:
    """Token limits for one part of the document and for the answer about it."""

    part: int
    answer: int


def room_for(model: Model, instructions: str, max_tokens: int | None) -> Room:
    """Gives at most a third of the context to the answer, and the rest to the instructions and the part."""
    third = max(1, model.context // 3)
    answer = min(max_tokens or third, third)
    return Room(max(model.context - answer - model.count(instructions) - MARGIN, third), answer)


def clauses(document: str) -> list[str]:
    """The clauses and paragraphs of `document`; joined they equal it."""
    starts = [0, *(match.start() for match in CLAUSE.finditer(document) if match.start()), len(document)]
    return [document[start:end] for start, end in pairwise(starts) if end > start]


def parts(document: str, fits: Fits) -> list[str]:
    """`document` in parts that fit, each of whole clauses; a clause that is too long is cut at sentences."""
    if fits(document):
        return [document]
    pieces: list[str] = []
    for clause in clauses(document):
        pieces += [clause] if fits(clause) else packed(sentences(clause), fits)
    return list(packed(pieces, fits))


def counted(model: Model, tokens: int) -> Fits:
    """A function that is True for a text of at most `tokens` tokens; short texts need no counting."""
    return lambda text: len(text) <= tokens or (len(text) < 20 * tokens and model.count(text) <= tokens)


async def item_list(
    model: Model, pieces: Sequence[str], ask: Ask, sampling: Sampling
) -> AsyncGenerator[str, None]:
    """Pieces of one JSON object whose `items` are those of the answers about all parts.

    An answer that was cut off ends the object as it is, because its continuation would be a guess.
    """
    if len(pieces) == 1:
        async with aclosing(model.stream(ask(pieces[0], 1, 1), sampling)) as answer:
            async for text in answer:
                yield text
        return
    yield '{"items": ['
    written = 0
    for number, piece in enumerate(pieces, start=1):
        async with aclosing(model.stream(ask(piece, number, len(pieces)), sampling)) as answer:
            whole = "".join([text async for text in answer])
        items = read_items(whole)
        if items is None:
            yield f"{', ' if written else ''}{whole}"
            return
        for item in items:
            yield f"{', ' if written else ''}{json.dumps(item, ensure_ascii=False)}"
            written += 1
    yield "]}"
