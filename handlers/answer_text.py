"""Tokens of one answer to the text that may be sent, and their log-probabilities along with it.

Text is cut at the first stop string and never ends inside a character; a token's row leaves with the text
that the token begins, so that rows and text stay together through both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from handlers.logprobs import Row
from handlers.runtimes.base import Step
from handlers.stop_strings import StopStrings
from handlers.token_rows import TokenRows
from handlers.tokenizer import Decoder


class Piece(str):
    """Text with the rows of the tokens that it made known; none where nobody asked for them."""

    logprobs: list[Row] | None

    def __new__(cls, text: str, logprobs: list[Row] | None = None) -> Piece:
        piece = super().__new__(cls, text)
        piece.logprobs = logprobs
        return piece


class AnswerText:
    """Feed steps, then flush. `ended` says that a stop string or one of `end_ids` was met."""

    def __init__(
        self, decoder: Decoder, stops: Sequence[str], end_ids: frozenset[int], rows: TokenRows | None
    ) -> None:
        self._decoder = decoder
        self._stops = StopStrings(stops)
        self._end_ids = end_ids
        self._rows = rows
        self._waiting: deque[Row] = deque()
        self._decoded = 0
        self._sent = 0
        self.ended = False

    def feed(self, step: Step) -> Piece:
        """What the step adds to the text that may be sent."""
        text = self._stops.feed(self._decode(step))
        self.ended = self.ended or self._stops.hit
        self._sent += len(text)
        return Piece(text, self._begun())

    def flush(self) -> Piece:
        """What was held back, once nothing follows."""
        text = self._stops.flush()
        self._sent += len(text)
        rows = self._begun()
        if rows is not None and not self._stops.hit:
            rows += self._waiting
        return Piece(text, rows)

    def _decode(self, step: Step) -> str:
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
        return text

    def _begun(self) -> list[Row] | None:
        """Rows of the tokens that begin before the end of what was sent."""
        if self._rows is None:
            return None
        rows: list[Row] = []
        while self._waiting and self._waiting[0]["offset"] < self._sent:
            rows.append(self._waiting.popleft())
        return rows
