"""Looks up the quotations and numbers of an answer in its sources; pure.

White space and the form of quotation marks do not count; case, words and their order must be the source's
own, and the parts around an ellipsis must follow each other in the source. Numbers are compared rounded as in
the answer: a number that the model computed itself is not supported, even if it is right.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import isfinite
from typing import Any

PLAIN = str.maketrans("“”„‟«»‘’‚‛‐‑‒–—−\u00a0", '""""""\'\'\'\'------ ')
QUOTED = re.compile(r'"([^"\n]{1,2000}(?:\n[^"\n]{1,2000}){0,3})"')
SINGLE = re.compile(r"‘([^‘\n]{1,2000}?)’(?!\w)")
ELLIPSIS = re.compile(r"\[?(?:…|\.\s?\.\s?\.)\]?")
ELSEWHERE = re.compile(r"\n\s*(?:\n|(?:\d+(?:\.\d+)*[.)]|\([a-z]\))\s)")
"""The start of a paragraph or clause.

A quotation may not join pieces of several: that would prove anything.
"""
LEAST_WORDS = 3
"""Least words of a quotation; fewer words between quotation marks are a term or a title."""
WORD = re.compile(r"\S+")
MOST_READ = 400_000_000
"""Most characters that the searches of one answer read, in about half a second: 100 quotations in 4 MB."""

MOST_CLAIMS = 200
NUMBER = re.compile(
    r"(?<![\w.])(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)"
    r"(?:\s?(?P<scale>%|thousand\b|million\b|billion\b|k\b|m\b|bn\b))?",
    re.IGNORECASE,
)
SCALES = {"%": 0.01, "thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6, "billion": 1e9, "bn": 1e9}
ITEM = re.compile(r"^[^\S\n]*+\d{1,3}[.)]\s", re.MULTILINE)


class SourceText:
    """A text in which quotations are looked up. It is prepared once; each quotation then costs one search."""

    def __init__(self, text: str) -> None:
        self._plain = text.translate(PLAIN)
        # The same words with single spaces between them, and where each word begins in both.
        self._spaced = " ".join(self._plain.split())
        self._words = array("q", (word.start() for word in WORD.finditer(self._plain)))
        lengths = (len(word) + 1 for word in self._plain.split())
        self._spaced_words = array("q", accumulate(lengths, initial=0))

    def locate(self, quote: str) -> int | None:
        """The position of the quote in characters of the text; None if it is missing or has no words."""
        plain = quote.translate(PLAIN).strip("\"' \n\t")
        if (whole := self._find(plain, 0)) is not None:
            return self._place(whole[0])
        first, end = None, 0
        for part in filter(str.strip, ELLIPSIS.split(plain)):
            found = self._find(part, end)
            if found is None:
                return None
            if first is not None and ELSEWHERE.search(
                self._plain, self._place(end - 1) + 1, self._place(found[0])
            ):
                return None
            first, end = (found[0] if first is None else first), found[1]
        return None if first is None else self._place(first)

    def _find(self, quote: str, start: int) -> tuple[int, int] | None:
        words = " ".join(quote.split())
        at = self._spaced.find(words, start) if words else -1
        return (at, at + len(words)) if at >= 0 else None

    def _place(self, at: int) -> int:
        word = bisect_right(self._spaced_words, at) - 1
        return self._words[word] + at - self._spaced_words[word]


def affordable(quotes: Sequence[str], characters: int) -> Sequence[str]:
    """The first quotations: those that can be looked up within the time limit in sources of this length."""
    return quotes[: max(1, MOST_READ // max(1, characters))]


def quotations(text: str) -> list[str]:
    """The texts of at least three words between quotation marks, in order."""
    # Straight single quotation marks are often apostrophes, so they are not used.
    double = ((match.start(), match[1]) for match in QUOTED.finditer(text.translate(PLAIN)))
    single = ((match.start(), match[1].translate(PLAIN)) for match in SINGLE.finditer(text))
    found = (quote.strip() for _, quote in sorted([*double, *single]))
    return [quote for quote in found if len(quote.split()) >= LEAST_WORDS]


def unsupported(text: str, known: Iterable[float]) -> list[str]:
    """Numbers of `text` that no number of `known` rounds to, as written and each once; signs do not count."""
    values = sorted({abs(value) for value in known if isfinite(value)})
    found: dict[str, None] = {}
    for match in NUMBER.finditer(ITEM.sub("\n", text)):
        written = match[0].strip()
        if written not in found and not _stands(match, values):
            found[written] = None
            if len(found) == MOST_CLAIMS:
                break
    return list(found)


def numbers_in(value: Any) -> Iterator[float]:
    """Every number of a JSON value, including those in its strings."""
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, str):
        yield from (float(match["number"].replace(",", "")) for match in NUMBER.finditer(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def _stands(match: re.Match[str], values: Sequence[float]) -> bool:
    digits, _, exponent = match["number"].replace(",", "").lower().partition("e")
    power = int(exponent or 0)
    half = float(f"5e{power - len(digits.partition('.')[2]) - 1}")
    claim = float(f"{digits}e{power}")
    # `3 m` may be three million or three metres.
    units = {1.0, SCALES.get((match["scale"] or "").lower(), 1.0)}
    return isfinite(claim) and any(
        _lies_within(values, (claim - half) * unit, (claim + half) * unit) for unit in units
    )


def _lies_within(values: Sequence[float], low: float, high: float) -> bool:
    slack = 1e-9 * high
    first = bisect_left(values, low - slack)
    return first < len(values) and values[first] <= high + slack
