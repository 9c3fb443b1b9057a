"""Tokens of one answer to the text that may be sent, and their log-probabilities along with it.

Text is cut at the first stop string, holding back what may still become one, and never ends inside a
character; a token's row leaves with the text that the token begins, so that rows and text stay together
through both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import repeat

from handlers.inference.tokenizer import Decoder, TextTokenizer
from handlers.logprobs import Echo, Row
from handlers.runtimes.base import Step


class TokenRows:
    """Writes rows for the tokens of one model."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._spelling = tokenizer.spelling

    def of_step(self, step: Step, at: int, offset: int) -> Row:
        """The row of token number `at` of a step that has log-probabilities."""
        assert step.logprobs is not None
        top = step.top_logprobs[at] if step.top_logprobs else {}
        return self._row(step.token_ids[at], step.logprobs[at], top, offset)

    def prompt(self, ids: Sequence[int], read: Step) -> Echo:
        """The prompt with a row for each token; nothing is known before the first one."""
        text, offsets = self._placed(ids)
        rows = [self._row(ids[0], None, {}, 0)]
        rows += [self.of_step(read, at, offset) for at, offset in enumerate(offsets[1:])]
        return Echo(text, rows)

    def prompt_text(self, ids: Sequence[int]) -> str:
        """The prompt without what the model begins every text with."""
        return self._placed(ids)[0]

    def _placed(self, ids: Sequence[int]) -> tuple[str, list[int]]:
        """The text and where in it each token begins; what begins every text of the model is left out."""
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
    """Feed pieces; what comes back is safe to send. `hit` says that a stop string was met."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self._borders = [_borders(stop) for stop in self._stops]
        self._begun = [0 for _ in self._stops]
        self.hit = False

    def feed(self, piece: str) -> str:
        """The part of the text that no stop string can claim any more; ends before the earliest stop."""
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
        """The held text, once nothing follows."""
        held, self._held = self._held, ""
        return held


def _borders(stop: str) -> list[int]:
    """For each beginning of `stop` the length of its longest end that begins `stop` too."""
    found = [0] * len(stop)
    for at in range(1, len(stop)):
        found[at] = _begun(stop, found, found[at - 1], stop[at])
    return found


def _begun(stop: str, borders: list[int], begun: int, piece: str) -> int:
    """How much of `stop` the text ends with once `piece` follows; `begun` is how much it did before.

    It looks at each new character once, so that 16 long stop strings cost a token no more than short ones.
    """
    for character in piece:
        while begun and stop[begun] != character:
            begun = borders[begun - 1]
        begun += stop[begun] == character
    return begun


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
