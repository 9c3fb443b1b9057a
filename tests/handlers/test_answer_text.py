"""Text and log-probabilities of one answer are sent together, wherever the text is cut."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from handlers.inference.output import Detokenizer, LogprobFormatter, TextPiece
from handlers.inference.tokenizer import TextTokenizer, TokenBytes
from handlers.logprobs import Row
from handlers.runtimes.base import Step
from tests.handlers.tiny_models import byte_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    """A token for each byte."""
    folder: Path = tmp_path_factory.mktemp("bytes")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return TextTokenizer(folder)


def told(tokenizer: TextTokenizer, text: str, cuts: list[int], stops: list[str]) -> list[TextPiece]:
    ids = tokenizer.encode(text)
    answer = Detokenizer(tokenizer.decoder(), stops, frozenset(), LogprobFormatter(tokenizer))
    pieces: list[TextPiece] = []
    for start, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        part = ids[start:end]
        pieces.append(answer.feed(Step(part, None, [-1.0] * len(part))))
        if answer.ended:
            break
    return [*pieces, answer.flush()]


def spelt(rows: list[Row]) -> bytes:
    return b"".join(bytes(row["bytes"]) for row in rows)


def rows_of(pieces: list[TextPiece]) -> list[Row]:
    return [row for piece in pieces for row in piece.logprobs or ()]


@given(text=st.text(max_size=20), stop=st.text(max_size=3), seed=st.integers(0, 2**32))
def test_rows_spell_the_text_that_left_with_them(
    tokenizer: TextTokenizer, text: str, stop: str, seed: int
) -> None:
    chance, length = random.Random(seed), len(text.encode())
    cuts = sorted(chance.choices(range(length + 1), k=3))
    pieces = told(tokenizer, text, cuts, [stop] if stop else [])
    said = "".join(pieces)
    expected = text[: text.index(stop)] if stop and stop in text else text
    assert said == expected
    assert spelt(rows_of(pieces)) == expected.encode()
    for row in rows_of(pieces):
        assert 0 <= row["offset"] < len(said)


def test_half_a_character_leaves_with_the_other_half(tokenizer: TextTokenizer) -> None:
    first, second, *rest = told(tokenizer, "é!", [1], [])
    assert (first, first.logprobs) == ("", [])
    assert second == "é!"
    assert [(row["offset"], bytes(row["bytes"])) for row in second.logprobs or ()] == [
        (0, b"\xc3"),
        (0, b"\xa9"),
        (1, b"!"),
    ]
    assert rest == [""]


def test_a_character_that_was_never_finished_keeps_its_row(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode("é")[:1]
    answer = Detokenizer(tokenizer.decoder(), [], frozenset(), LogprobFormatter(tokenizer))
    assert answer.feed(Step(ids, "length", [-1.0])) == ""
    rest = answer.flush()
    assert (rest, spelt(rest.logprobs or [])) == ("", b"\xc3")


def test_without_rows_a_piece_has_none(tokenizer: TextTokenizer) -> None:
    answer = Detokenizer(tokenizer.decoder(), [], frozenset(), None)
    assert answer.feed(Step(tokenizer.encode("ab"))).logprobs is None


def test_tokens_of_sentencepiece_are_spelt_with_their_spaces_and_bytes() -> None:
    vocabulary = {"▁the": 0, "<0xE4>": 1, "le": 2}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="le"))
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens(["<s>"])
    spelling = TokenBytes(made)
    assert [spelling.bytes_of(i) for i in range(5)] == [b" the", b"\xe4", b"le", b"<s>", b""]
