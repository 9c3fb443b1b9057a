"""Turns the tokens of one answer into text that may be sent, together with their log-probabilities.

Text is cut at the first stop string; a part that may still become one is held back. No piece ends inside a
character. A token's row is sent with the text that the token begins, so that rows and text stay together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import repeat

from handlers.inference.tokenizer import Decoder, TextTokenizer
from handlers.logprobs import Echo, Row
from handlers.runtimes.base import Step


class LogprobFormatter:
    """Makes log-probability rows for the tokens of one model."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._spelling = tokenizer.spelling

    def of_step(self, step: Step, at: int, offset: int) -> Row:
        """The row of token number `at` of a step that has log-probabilities."""
        assert step.logprobs is not None
        top = step.top_logprobs[at] if step.top_logprobs else {}
        return self._row(step.token_ids[at], step.logprobs[at], top, offset)

    def prompt(self, ids: Sequence[int], read: Step) -> Echo:
        """The prompt with a row for each token; the first token has no log-probability."""
        text, offsets = self._placed(ids)
        rows = [self._row(ids[0], None, {}, 0)]
        rows += [self.of_step(read, at, offset) for at, offset in enumerate(offsets[1:])]
        return Echo(text, rows)

    def prompt_text(self, ids: Sequence[int]) -> str:
        """The text of the prompt without the tokens that begin every text of the model."""
        return self._placed(ids)[0]

    def _placed(self, ids: Sequence[int]) -> tuple[str, list[int]]:
        """The text and the offset of each token in it.

        Tokens that begin every text of the model are left out.
        """
        beginning = self._tokenizer.beginning
        skipped = len(beginning) if list(ids[: len(beginning)]) == beginning else 0
        decoder = self._tokenizer.decoder(control=True)
        text, offsets = "", [0] * skipped
        for token in ids[skipped:]:
            offsets.append(len(text))
            text += decoder.feed([token])
        return text, offsets

    def _row(self, token: int, logprob: float | None, top: Mapping[int, float], offset: int) -> Row:
        alternatives = [self._alternative(other, value) for other, value in top.items()]
        return {**self._alternative(token, logprob), "offset": offset, "top": alternatives}

    def _alternative(self, token: int, logprob: float | None) -> Row:
        spelt = self._spelling.bytes_of(token)
        text = spelt.decode("utf-8", errors="replace")
        return {"id": token, "token": text, "bytes": list(spelt), "logprob": logprob}


class StopStrings:
    """Cuts text at stop strings: feed pieces, and send the returned text.

    `hit` is True once one was found.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self._borders = [_borders(stop) for stop in self._stops]
        self._begun = [0 for _ in self._stops]
        self.hit = False

    def feed(self, piece: str) -> str:
        """The text that can no longer be part of a stop string; it ends before the earliest stop string."""
        text = self._held + piece
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.hit = True
            self._held = ""
            self._begun = [0 for _ in self._stops]
            return text[: min(found)]
        self._begun = list(map(_begun, self._stops, self._borders, self._begun, repeat(piece)))
        keep = max(self._begun, default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The text that was held back; call it at the end."""
        held, self._held = self._held, ""
        return held


def _borders(stop: str) -> list[int]:
    """For each prefix of `stop` the length of its longest suffix that is also a prefix of `stop`."""
    found = [0] * len(stop)
    for at in range(1, len(stop)):
        found[at] = _begun(stop, found, found[at - 1], stop[at])
    return found


def _begun(stop: str, borders: list[int], begun: int, piece: str) -> int:
    """The length of the prefix of `stop` at the end of the text after `piece`.

    `begun` is the length before it. Reads each new character once, so that 16 long stop strings cost no more
    per token than short ones.
    """
    for character in piece:
        while begun and stop[begun] != character:
            begun = borders[begun - 1]
        begun += stop[begun] == character
    return begun


class TextPiece(str):
    """Text with the rows of the tokens that begin in it; None if log-probabilities were not requested."""

    logprobs: list[Row] | None

    def __new__(cls, text: str, logprobs: list[Row] | None = None) -> TextPiece:
        piece = super().__new__(cls, text)
        piece.logprobs = logprobs
        return piece


class Detokenizer:
    """Text of one answer: feed steps, then flush.

    `ended` is True after a stop string or a token of `end_ids`.
    """

    def __init__(
        self, decoder: Decoder, stops: Sequence[str], end_ids: frozenset[int], rows: LogprobFormatter | None
    ) -> None:
        self._decoder = decoder
        self._stops = StopStrings(stops)
        self._end_ids = end_ids
        self._rows = rows
        self._waiting: deque[Row] = deque()
        self._decoded = 0
        self._sent = 0
        self.ended = False

    def feed(self, step: Step) -> TextPiece:
        """The text that may be sent after this step."""
        text = ""
        for at, token in enumerate(step.token_ids):
            if token in self._end_ids:
                self.ended = True
                break
            if self._rows is not None:
                self._waiting.append(self._rows.of_step(step, at, self._decoded))
            piece = self._decoder.feed([token])
            self._decoded += len(piece)
            text += piece
        text = self._stops.feed(text)
        self.ended = self.ended or self._stops.hit
        self._sent += len(text)
        return TextPiece(text, self._begun())

    def flush(self) -> TextPiece:
        """The text and the rows that were held back; call it at the end."""
        text = self._stops.flush()
        self._sent += len(text)
        rows = self._begun()
        if rows is not None and not self._stops.hit:
            rows += self._waiting
        return TextPiece(text, rows)

    def _begun(self) -> list[Row] | None:
        """Rows of the tokens that begin before the end of the sent text."""
        if self._rows is None:
            return None
        rows: list[Row] = []
        while self._waiting and self._waiting[0]["offset"] < self._sent:
            rows.append(self._waiting.popleft())
        return rows
