"""Log-probabilities of tokens as they cross between worker and gateway."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from handlers.strict_shapes import Shape


class _Frozen(Shape):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Alternative(_Frozen):
    """A token, its text, its own UTF-8 (perhaps half a character) and its log-probability."""

    id: int
    token: str
    bytes: list[int]
    logprob: float | None


class TokenLogprob(Alternative):
    """A token of the prompt or the answer, in `{"delta", "logprobs"}` beside the text it became known with.

    `logprob` is the model's own, before temperature, penalties, bias and schema; None for the first token of
    a prompt. `offset` counts characters from the start of prompt or answer; a token that goes on with a
    character has the offset of that character. `top`, likeliest first, has `top_logprobs` entries.
    """

    offset: int
    top: list[Alternative] = Field(default=[])


class Echo(_Frozen):
    """The prompt as the model reads it; `tokens` where log-probabilities were asked for."""

    text: str
    tokens: list[TokenLogprob] | None = None
