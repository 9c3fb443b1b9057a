"""Log-probabilities of tokens as they cross between worker and gateway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from handlers.long_records import RawRows

Row = dict[str, Any]
"""A token of the prompt or the answer, in `{"delta", "logprobs"}` beside the text it became known with.

Plain JSON: one for each token is too often for a checked model. It has `id`, `token`, the text, `bytes`, the
token's own UTF-8 (perhaps half a character), and `logprob`, the model's own, before temperature, penalties,
bias and schema; None for the first token of a prompt. `offset` counts characters from the start of prompt or
answer; a token that goes on with a character has the offset of that character. `top`, likeliest first, has
`top_logprobs` entries of the same, without `offset` and `top`.
"""


@dataclass(frozen=True, slots=True)
class Echo:
    """The prompt as the model reads it; `tokens` where log-probabilities were asked for."""

    text: str
    tokens: Sequence[Row] | RawRows | None = None

    @property
    def size(self) -> int:
        """What it has, in characters or what costs as much to write."""
        return len(self.text) + (self.tokens.size if isinstance(self.tokens, RawRows) else 0)

    def with_more(self, part: dict[str, Any]) -> Echo:
        """Together with the next part of it, as the worker's records have them."""
        if part["tokens"] is None:
            return Echo(self.text + part["text"])
        before = self.tokens.lists if isinstance(self.tokens, RawRows) else ()
        return Echo(self.text + part["text"], RawRows([*before, orjson.dumps(part["tokens"])]))
