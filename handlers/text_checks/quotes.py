"""Whether quoted words stand in a source, and where; white space and shapes of quotation marks aside.

Pure: two texts in, positions out. Case, words and their order must be the source's own; an ellipsis stands
for words that were left out, and what is around it must follow in the source.
"""

from __future__ import annotations

import re

PLAIN = str.maketrans("“”„‟«»‘’‚‛‐‑‒–—−\u00a0", '""""""\'\'\'\'------ ')
QUOTED = re.compile(r'"([^"\n]{1,2000}(?:\n[^"\n]{1,2000}){0,3})"')
SINGLE = re.compile(r"‘([^‘\n]{1,2000}?)’(?!\w)")
ELLIPSIS = re.compile(r"\[?(?:…|\.\s?\.\s?\.)\]?")
ELSEWHERE = re.compile(r"\n\s*(?:\n|(?:\d+(?:\.\d+)*[.)]|\([a-z]\))\s)")
"""Where a paragraph or a clause begins: pieces of several put together would prove anything."""
LEAST_WORDS = 3
"""Fewer words between quotation marks are a term or a title, not a quotation."""


def locate(quote: str, source: str) -> int | None:
    """Where in `source` the quote begins, in characters; None if it is not there or has no words."""
    plain, searched = quote.translate(PLAIN).strip("\"' \n\t"), source.translate(PLAIN)
    if (whole := _find(plain, searched, 0)) is not None:
        return whole.start()
    first, end = None, 0
    for part in filter(str.strip, ELLIPSIS.split(plain)):
        found = _find(part, searched, end)
        if found is None or (first is not None and ELSEWHERE.search(searched, end, found.start())):
            return None
        first, end = (found.start() if first is None else first), found.end()
    return first


def _find(quote: str, source: str, start: int) -> re.Match[str] | None:
    words = quote.split()
    return re.compile(r"\s+".join(map(re.escape, words))).search(source, start) if words else None


def quotations(text: str) -> list[str]:
    """What stands between quotation marks and has at least three words, in order."""
    # Straight single ones are apostrophes as often as not.
    double = ((match.start(), match[1]) for match in QUOTED.finditer(text.translate(PLAIN)))
    single = ((match.start(), match[1].translate(PLAIN)) for match in SINGLE.finditer(text))
    found = (quote.strip() for _, quote in sorted([*double, *single]))
    return [quote for quote in found if len(quote.split()) >= LEAST_WORDS]
