"""Log-probabilities of tokens as they cross between worker and gateway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from handlers.long_records import RawRows

Row = dict[str, Any]
"""A token of the prompt or the answer, sent in `{"delta", "logprobs"}` with the text that it begins.

Plain JSON, because a validated model per token would be too slow. `id` is the token id, `token` its text,
`bytes` its UTF-8 (perhaps part of a character), `logprob` the model's own log-probability, before
temperature, penalties, bias and schema; None for the first token of a prompt. `offset` counts characters from
the start of prompt or answer; a token that continues a character has the offset of that character. `top` has
up to `top_logprobs` such entries, likeliest first, without `offset` and `top`.
"""


@dataclass(frozen=True, slots=True)
class Echo:
    """The prompt as the model reads it; `tokens` are rows if log-probabilities were requested."""

    text: str
    tokens: Sequence[Row] | RawRows | None = None

    @property
    def size(self) -> int:
        """Its size in characters, or in bytes of rows, which cost as much to write."""
        return len(self.text) + (self.tokens.size if isinstance(self.tokens, RawRows) else 0)

    def with_more(self, part: dict[str, Any]) -> Echo:
        """This part joined with the next one; a worker sends a prompt in several records."""
        if part["tokens"] is None:
            return Echo(self.text + part["text"])
        before = self.tokens.lists if isinstance(self.tokens, RawRows) else ()
        return Echo(self.text + part["text"], RawRows([*before, orjson.dumps(part["tokens"])]))
