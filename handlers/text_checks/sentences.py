"""Text taken apart and put together again without losing a character: lines, sentences, pieces that fit.

Knows text; how much fits is asked of the caller's `count`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

WINDOW = 4000
"""Characters given to pysbd at once: its time grows with the square of the text's length."""


@dataclass(frozen=True, slots=True)
class Segment:
    """`text` without outer white space, and the white space before and after it as it stood."""

    before: str
    text: str
    after: str


def sentences(text: str, language: str = "en") -> list[str]:
    """The sentences of `text` with their trailing white space; joined they equal `text`.

    `language` is an ISO 639-1 code; one that pysbd does not know is split as English is.
    """
    found: list[str] = []
    at = 0
    while at < len(text):
        pieces = _split(text[at : at + WINDOW], language)
        if at + WINDOW < len(text) and len(pieces) > 1:
            pieces.pop()  # it may go on in the next window, which begins with it
        found += pieces
        at += sum(map(len, pieces))
    return found


def segments(text: str, language: str, fits: Callable[[str], bool], *, single: bool) -> Iterator[Segment]:
    """Pieces of `text` line by line, none across a line break, each of which `fits`.

    `single` keeps sentences apart; otherwise as many as fit stand together.
    """
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        for piece in packed(sentences(line, language), fits, single=single):
            yield _segment(piece)


def packed(pieces: list[str], fits: Callable[[str], bool], *, single: bool = False) -> Iterator[str]:
    """Neighbours joined while they fit; a piece that does not fit alone is cut between words."""
    parts = [part for one in pieces for part in _cut(one, fits)]
    start = 0
    while start < len(parts):
        end = start + 1 if single else _fitting(parts, start, fits)
        yield "".join(parts[start:end])
        start = end


def _fitting(parts: list[str], start: int, fits: Callable[[str], bool]) -> int:
    """The end of the most neighbours from `start` that fit, found by doubling: `fits` may count tokens."""
    step, most = 1, start + 1
    while most + step <= len(parts) and fits("".join(parts[start : most + step])):
        most += step
        step *= 2
    while step:
        if most + step <= len(parts) and fits("".join(parts[start : most + step])):
            most += step
        step //= 2
    return most


def _cut(piece: str, fits: Callable[[str], bool]) -> Iterator[str]:
    while not fits(piece) and len(piece) > 1:
        middle = len(piece) // 2
        space = max(piece.rfind(" ", 1, middle), piece.rfind("\n", 1, middle))
        at = space + 1 if space > 0 else middle
        yield from _cut(piece[:at], fits)
        piece = piece[at:]
    yield piece


def _segment(piece: str) -> Segment:
    text = piece.strip()
    start = piece.find(text)
    return Segment(piece[:start], text, piece[start + len(text) :])


def _split(text: str, language: str) -> list[str]:
    # pysbd drops some white space; its sentences say where to cut, the text itself is what is cut.
    starts, end = [0], 0
    for sentence in map(str.strip, _segmenter(language).segment(text)):
        at = text.find(sentence, end)
        if at > 0 and sentence and end > 0:
            starts.append(at)
        end = max(end, at + len(sentence))
    return [text[start:stop] for start, stop in pairwise([*starts, len(text)])]


@cache
def _segmenter(language: str) -> Any:
    import pysbd
    from pysbd.languages import LANGUAGE_CODES

    return pysbd.Segmenter(language=language if language in LANGUAGE_CODES else "en", clean=False)
