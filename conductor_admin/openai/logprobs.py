"""Log-probabilities as the chat and the completions interface show them, from the worker's token records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handlers.logprobs import Alternative, Echo, TokenLogprob

LEAST = -9999.0
"""What an impossible token has: JSON knows no infinity."""

Tokens = Sequence[dict[str, Any]]


def chat_logprobs(tokens: Tokens) -> dict[str, Any]:
    """`choices[].logprobs` of a chat, or of a chunk of one."""
    return {"content": [_chat_token(TokenLogprob.model_validate(token)) for token in tokens], "refusal": None}


def _chat_token(token: TokenLogprob) -> dict[str, Any]:
    return {**_entry(token), "top_logprobs": [_entry(other) for other in token.top]}


def _entry(token: Alternative) -> dict[str, Any]:
    return {"token": token.token, "logprob": _finite(token.logprob), "bytes": token.bytes}


def completion_logprobs(tokens: Tokens, top: int, start: int, echo: Echo | None = None) -> dict[str, Any]:
    """`choices[].logprobs` of a completion, or of a chunk of one.

    `start` is where the tokens' text begins in the choice's text; the prompt of `echo` stands before it.
    """
    shown = [TokenLogprob.model_validate(token) for token in tokens]
    prompt = list(echo.tokens or ()) if echo else []
    offsets = [token.offset for token in prompt] + [start + token.offset for token in shown]
    every = [*prompt, *shown]
    return {
        "tokens": [_name(token) for token in every],
        "token_logprobs": [None if t.logprob is None else _finite(t.logprob) for t in every],
        "top_logprobs": [_top(token) for token in every] if top else None,
        "text_offset": offsets,
    }


def _top(token: TokenLogprob) -> dict[str, float] | None:
    if token.logprob is None:
        return None
    found: dict[str, float] = {}
    for one in (*token.top, token):
        value, name = _finite(one.logprob), _name(one)
        found[name] = max(value, found.get(name, value))
    return found


def _name(token: Alternative) -> str:
    """The token's text, or its bytes where they are no whole characters and their text is one of many."""
    try:
        bytes(token.bytes).decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)
    return token.token


def _finite(value: float | None) -> float:
    return LEAST if value is None or value < LEAST else value
