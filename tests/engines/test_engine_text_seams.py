"""Readers of texts find the same with linear patterns as with those that they replaced."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.checks.code.endings import overlap
from handlers.checks.maths.answers import clean
from handlers.checks.text.bibliography import find_citations
from handlers.checks.text.json_answers import read_json
from handlers.checks.text.quotes import MOST_CLAIMS, MOST_READ, SourceText, affordable, unsupported
from handlers.checks.text.sentences import packed, sentences
from handlers.engines._translation import _in_words
from handlers.inference.output import StopStrings


@pytest.mark.parametrize(
    "text",
    ["[1]", " [1]\n", "```json\n[1]\n```", "\n```\n\n[1]```\n", "``` \n[1]\n  ```", "```json\r\n[1]\r\n```"],
)
def test_json_is_read_out_of_the_one_fence_around_it(text: str) -> None:
    assert read_json(text) == [1]


@pytest.mark.parametrize("text", ["```\n[1]", "[1]\n```", "```python\n[1]\n```", "x\n```\n[1]\n```"])
def test_json_beside_other_text_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting value|Extra data"):
        read_json(text)


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("Translate to French: Hello: you", ("Hello: you", "fra_Latn")),
        (" please translate this text into  the German :\n Hello", ("Hello", "deu_Latn")),
        ("translate into Chinese (Simplified): Hello", ("Hello", "zho_Hans")),
        ("translate to nowhere: Hello", ("translate to nowhere: Hello", None)),
        ("translate to French", ("translate to French", None)),
        ("translate\nto French: Hello", ("translate\nto French: Hello", None)),
        ("translate to" + " " * 60_000, ("translate to" + " " * 60_000, None)),
    ],
)
def test_a_translation_is_asked_for_in_words(prompt: str, found: tuple[str, str | None]) -> None:
    assert _in_words(prompt) == found


@given(st.text("ab \n", max_size=30), st.text("ab \n", max_size=8))
def test_a_quotation_is_found_where_its_words_stand(source: str, quote: str) -> None:
    words = quote.split()
    pattern = re.compile(r"\s+".join(words))
    expected = pattern.search(source) if words else None
    assert SourceText(source).locate(quote) == (expected.start() if expected else None)


def test_quotations_are_looked_up_while_it_is_cheap() -> None:
    assert affordable(["a", "b", "c"], MOST_READ // 2) == ["a", "b"]
    assert affordable(["a", "b"], 10 * MOST_READ) == ["a"]
    assert affordable(["a", "b"], 0) == ["a", "b"]


def test_each_number_is_told_once_and_so_many_at_most() -> None:
    assert unsupported("\n\n 1. 7 of 7\n2) 8", [8.0]) == ["7"]
    assert len(unsupported(" ".join(map(str, range(10, 1000))), [])) == MOST_CLAIMS


def test_ranges_of_numbers_name_each_source_once() -> None:
    cited = find_citations("a [2-3], b [1, 3–4]", [])
    assert cited == [("[2]", False), ("[3]", False), ("[1]", False), ("[4]", False)]


@given(st.text("ab", max_size=12), st.text("ab", max_size=12))
def test_an_overlap_is_the_longest(text: str, suffix: str) -> None:
    shared = [at for at in range(1, min(len(text), len(suffix)) + 1) if text.endswith(suffix[:at])]
    assert overlap(text, suffix) == max(shared, default=0)


@given(st.lists(st.text("ab", max_size=3), max_size=8), st.lists(st.text("ab", min_size=1, max_size=5)))
def test_what_may_become_a_stop_string_is_held_back(pieces: list[str], stops: list[str]) -> None:
    reader, seen, sent = StopStrings(stops), "", ""
    for piece in pieces:
        seen += piece
        sent += reader.feed(piece)
        if reader.hit:
            assert any(stop in seen for stop in stops)
            return
        ends = [n for stop in stops for n in range(1, len(stop)) if seen.endswith(stop[:n])]
        assert seen[len(sent) :] == (seen[-max(ends) :] if ends else "")
    assert sent + reader.flush() == seen


@pytest.mark.parametrize(
    ("text", "answer"),
    [("so $x$ and \\(y\\)", "x, y"), ("$$a$ b$$", "a$ b"), ("5\\$ or \\(3", "5 or \\(3"), ("$5", "5")],
)
def test_maths_stands_between_its_delimiters(text: str, answer: str) -> None:
    assert clean(text) == answer


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(1, 40))
def test_as_many_neighbours_stand_together_as_fit(sizes: list[int], most: int) -> None:
    pieces = list(packed(["x" * size for size in sizes], lambda text: len(text) <= most))
    assert sum(map(len, pieces)) == sum(sizes)
    assert all(len(piece) <= most for piece in pieces)


def test_sentences_of_a_long_text_are_whole() -> None:
    text = "This is a sentence of some length. " * 500
    assert set(sentences(text)) == {"This is a sentence of some length. "}
