"""Log-probabilities as clients get them: each token with its text, its bytes and its place in the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from handlers.logprobs import Echo, Row
from handlers.runtimes.base import Step
from handlers.tokenizer import TextTokenizer


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
