"""Warnings about a translation, by its language, length, lines and untranslated words.

Pure: takes a source text and its translation, and gives one sentence for each warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from handlers.checks.text.languages import english_name, is_other_language

SHORTEST, LONGEST = 0.4, 2.5
"""Bounds of a translation's length divided by its source's.

A Han, kana or Hangul character counts as three.
"""
TOO_SHORT_TO_MEASURE = 20
SPAN_WORDS = 4
WIDE = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")


def translation_warnings(
    source: str, translation: str, source_code: str | None, target: str
) -> Iterator[str]:
    """One sentence for each check that fails; `source_code` is None if the source language is unknown."""
    if source.strip() and not translation.strip():
        yield "empty: there is no translation"
        return
    if is_other_language(translation, target):
        yield f"language: the translation is not in {english_name(target)}"
    size, ratio = _size(source), _size(translation) / max(1, _size(source))
    if size >= TOO_SHORT_TO_MEASURE and not SHORTEST <= ratio <= LONGEST:
        yield f"length: the translation is {ratio:.2f} times as long as the source"
    given, got = source.strip().count("\n") + 1, translation.strip().count("\n") + 1
    if given != got:
        yield f"lines: the source has {given}, the translation {got}"
    if source_code != target:
        yield from (f"untranslated: {span!r}" for span in untranslated_spans(source, translation))


def untranslated_spans(source: str, translation: str) -> list[str]:
    """Runs of four or more words that are in both texts, in the order of the source."""
    words, other = _words(source), _words(translation)
    there = {tuple(other[i : i + SPAN_WORDS]) for i in range(len(other) - SPAN_WORDS + 1)}
    spans: list[str] = []
    at = 0
    while at <= len(words) - SPAN_WORDS:
        end = at
        while tuple(words[end : end + SPAN_WORDS]) in there:
            end += 1
        if end > at:
            spans.append(" ".join(words[at : end + SPAN_WORDS - 1]))
            end += SPAN_WORDS - 1
        at = max(end, at + 1)
    return spans


def _size(text: str) -> int:
    return len(text) + 2 * len(WIDE.findall(text))


def _words(text: str) -> list[str]:
    # In scripts without spaces each character counts as a word.
    return re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\d_]+", text.casefold())
