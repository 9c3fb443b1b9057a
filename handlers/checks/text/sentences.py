"""Splits text into lines, sentences and pieces that fit, and joins them again without losing a character.

Knows text only; the caller's `fits` decides which pieces are short enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice, pairwise
from typing import Any

WINDOWS = (1000, 4000)
"""Characters given to pysbd at once; the second number where a sentence is longer than the first. Its time
grows with the square of the length: the worst known text takes 40 ms for 1,000 characters, 0.4 s for 4,000.
"""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text: `text` without outer white space, and the original white space before and after it."""

    before: str
    text: str
    after: str


def sentences(text: str, language: str = "en") -> Iterator[str]:
    """The sentences of `text` with their trailing white space; joined they equal `text`.

    `language` is an ISO 639-1 code; a language that pysbd does not know is split as English. A sentence
    longer than the widest window is cut between words. Sentences are found one by one, as the iterator is
    read.
    """
    start = 0
    while start < len(text):
        found = _first_sentences(text, start, language)
        yield from found
        start += sum(map(len, found))


def _first_sentences(text: str, start: int, language: str) -> list[str]:
    for window in WINDOWS:
        part = text[start : start + window]
        pieces = _split(part, language)
        if start + window >= len(text):
            return pieces
        if len(pieces) > 1:
            return pieces[:-1]  # the last sentence may go on after the window
    space = part.rfind(" ") + 1
    return [part[:space] if space > 0 else part]


def segments(text: str, language: str, fits: Callable[[str], bool], *, single: bool) -> Iterator[Segment]:
    """Pieces of `text` that satisfy `fits`, none of them across a line break.

    With `single` each piece is one sentence; otherwise a piece has as many sentences as fit.
    """
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        for piece in packed(sentences(text[start:end], language), fits, single=single):
            inner = piece.strip()
            at = piece.find(inner)
            yield Segment(piece[:at], inner, piece[at + len(inner) :])
        start = end


def packed(pieces: Iterable[str], fits: Callable[[str], bool], *, single: bool = False) -> Iterator[str]:
    """Neighbouring pieces joined while they fit; a piece that does not fit alone is cut between words."""
    coming = (part for one in pieces for part in _cut(one, fits))
    ahead: list[str] = []
    while ahead or (ahead := list(islice(coming, 1))):
        end = 1 if single else _fitting(ahead, coming, fits)
        yield "".join(ahead[:end])
        del ahead[:end]


def _fitting(ahead: list[str], coming: Iterator[str], fits: Callable[[str], bool]) -> int:
    """The length of the longest run from the first piece that fits, by doubling: `fits` may count tokens.

    Moves pieces from `coming` to `ahead` as they are needed.
    """
    step, most = 1, 1
    while _reaches(ahead, coming, most + step) and fits("".join(ahead[: most + step])):
        most += step
        step *= 2
    while step:
        if len(ahead) >= most + step and fits("".join(ahead[: most + step])):
            most += step
        step //= 2
    return most


def _reaches(ahead: list[str], coming: Iterator[str], parts: int) -> bool:
    ahead += islice(coming, max(0, parts - len(ahead)))
    return len(ahead) >= parts


def _cut(piece: str, fits: Callable[[str], bool]) -> Iterator[str]:
    while not fits(piece) and len(piece) > 1:
        middle = len(piece) // 2
        space = max(piece.rfind(" ", 1, middle), piece.rfind("\n", 1, middle))
        at = space + 1 if space > 0 else middle
        yield from _cut(piece[:at], fits)
        piece = piece[at:]
    yield piece


def _split(text: str, language: str) -> list[str]:
    # pysbd drops some white space, so its sentences only show the cuts, which are made in the text itself.
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
