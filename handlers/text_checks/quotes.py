"""Whether quoted words stand in a source, and where; white space and shapes of quotation marks aside.

Pure: texts in, positions out. Case, words and their order must be the source's own; an ellipsis stands
for words that were left out, and what is around it must follow in the source.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

PLAIN = str.maketrans("“”„‟«»‘’‚‛‐‑‒–—−\u00a0", '""""""\'\'\'\'------ ')
QUOTED = re.compile(r'"([^"\n]{1,2000}(?:\n[^"\n]{1,2000}){0,3})"')
SINGLE = re.compile(r"‘([^‘\n]{1,2000}?)’(?!\w)")
ELLIPSIS = re.compile(r"\[?(?:…|\.\s?\.\s?\.)\]?")
ELSEWHERE = re.compile(r"\n\s*(?:\n|(?:\d+(?:\.\d+)*[.)]|\([a-z]\))\s)")
"""Where a paragraph or a clause begins: pieces of several put together would prove anything."""
LEAST_WORDS = 3
"""Fewer words between quotation marks are a term or a title, not a quotation."""
WORD = re.compile(r"\S+")
MOST_READ = 400_000_000
"""Characters that the searches of one answer may read, about half a second: 100 quotations of 4 MB."""


class Source:
    """A text to look quotations up in. It is prepared once; then a quotation costs one search of it."""

    def __init__(self, text: str) -> None:
        self._plain = text.translate(PLAIN)
        # The same words with single spaces between them, and where each word begins in both.
        self._spaced = " ".join(self._plain.split())
        self._words = array("q", (word.start() for word in WORD.finditer(self._plain)))
        lengths = (len(word) + 1 for word in self._plain.split())
        self._spaced_words = array("q", accumulate(lengths, initial=0))

    def locate(self, quote: str) -> int | None:
        """Where the quote begins, in characters of the text; None if it is not there or has no words."""
        plain = quote.translate(PLAIN).strip("\"' \n\t")
        if (whole := self._find(plain, 0)) is not None:
            return self._place(whole[0])
        first, end = None, 0
        for part in filter(str.strip, ELLIPSIS.split(plain)):
            found = self._find(part, end)
            if found is None or (first is not None and self._is_elsewhere(end, found[0])):
                return None
            first, end = (found[0] if first is None else first), found[1]
        return None if first is None else self._place(first)

    def _find(self, quote: str, start: int) -> tuple[int, int] | None:
        words = " ".join(quote.split())
        at = self._spaced.find(words, start) if words else -1
        return (at, at + len(words)) if at >= 0 else None

    def _is_elsewhere(self, end: int, start: int) -> bool:
        return ELSEWHERE.search(self._plain, self._place(end - 1) + 1, self._place(start)) is not None

    def _place(self, at: int) -> int:
        word = bisect_right(self._spaced_words, at) - 1
        return self._words[word] + at - self._spaced_words[word]


def affordable(quotes: Sequence[str], characters: int) -> Sequence[str]:
    """The first ones, as many as may be looked up in sources of so many characters."""
    return quotes[: max(1, MOST_READ // max(1, characters))]


def quotations(text: str) -> list[str]:
    """What stands between quotation marks and has at least three words, in order."""
    # Straight single ones are apostrophes as often as not.
    double = ((match.start(), match[1]) for match in QUOTED.finditer(text.translate(PLAIN)))
    single = ((match.start(), match[1].translate(PLAIN)) for match in SINGLE.finditer(text))
    found = (quote.strip() for _, quote in sorted([*double, *single]))
    return [quote for quote in found if len(quote.split()) >= LEAST_WORDS]
