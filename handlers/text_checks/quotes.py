"""Whether quoted words stand in a source, and where; white space and shapes of quotation marks aside.

Pure: two texts in, positions out. Case, words and their order must be the source's own.
"""

from __future__ import annotations

import re

PLAIN = str.maketrans("“”„‟«»‘’‚‛‐‑‒–—−\u00a0", '""""""\'\'\'\'------ ')
QUOTED = re.compile(r'"([^"\n]{1,2000}(?:\n[^"\n]{1,2000}){0,3})"')
SINGLE = re.compile(r"‘([^‘\n]{1,2000}?)’(?!\w)")
LEAST_WORDS = 3
"""Fewer words between quotation marks are a term or a title, not a quotation."""


def locate(quote: str, source: str) -> int | None:
    """Where in `source` the quote begins, in characters; None if it is not there or has no words."""
    words = quote.translate(PLAIN).strip("\"' \n\t").split()
    if not words:
        return None
    found = re.search(r"\s+".join(map(re.escape, words)), source.translate(PLAIN))
    return found.start() if found else None


def quotations(text: str) -> list[str]:
    """What stands between quotation marks and has at least three words, in order."""
    # Straight single ones are apostrophes as often as not.
    double = ((match.start(), match[1]) for match in QUOTED.finditer(text.translate(PLAIN)))
    single = ((match.start(), match[1].translate(PLAIN)) for match in SINGLE.finditer(text))
    found = (quote.strip() for _, quote in sorted([*double, *single]))
    return [quote for quote in found if len(quote.split()) >= LEAST_WORDS]
