"""Log-probabilities as the chat and the completions interface show them, from the worker's token records."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import orjson

from handlers.logprobs import Echo, Row
from handlers.long_records import ROWS, batches, one_list

LEAST = -9999.0
"""What an impossible token has: JSON knows no infinity."""

Tokens = Iterable[Row]


def chat_logprobs(tokens: Tokens) -> dict[str, Any]:
    """`choices[].logprobs` of a chat, or of a chunk of one; written so far as JSON, for `orjson.dumps`."""
    lists = [orjson.dumps([_chat_token(token) for token in some]) for some in batches(tokens, ROWS)]
    return {"content": one_list(lists), "refusal": None}


def _chat_token(token: Row) -> dict[str, Any]:
    return {**_entry(token), "top_logprobs": [_entry(other) for other in token.get("top", ())]}


def _entry(token: Row) -> dict[str, Any]:
    return {"token": token["token"], "logprob": _finite(token["logprob"]), "bytes": token["bytes"]}


def completion_logprobs(tokens: Tokens, top: int, start: int, echo: Echo | None = None) -> dict[str, Any]:
    """`choices[].logprobs` of a completion, or of a chunk of one; written so far as JSON.

    `start` is where the tokens' text begins in the choice's text; the prompt of `echo` stands before it.
    """
    prompt = echo.tokens if echo and echo.tokens is not None else ()
    placed = chain(((token, 0) for token in prompt), ((token, start) for token in tokens))
    parts = [_columns(some) for some in batches(placed, ROWS)]
    names, values, tops, offsets = (one_list(part[number] for part in parts) for number in range(4))
    return {
        "tokens": names,
        "token_logprobs": values,
        "top_logprobs": tops if top else None,
        "text_offset": offsets,
    }


def _columns(placed: list[tuple[Row, int]]) -> tuple[bytes, bytes, bytes, bytes]:
    values = [token["logprob"] for token, _ in placed]
    return (
        orjson.dumps([_name(token) for token, _ in placed]),
        orjson.dumps([None if value is None else _finite(value) for value in values]),
        orjson.dumps([_top(token) for token, _ in placed]),
        orjson.dumps([start + token["offset"] for token, start in placed]),
    )


def _top(token: Row) -> dict[str, float] | None:
    if token["logprob"] is None:
        return None
    found: dict[str, float] = {}
    for one in (*token.get("top", ()), token):
        value, name = _finite(one["logprob"]), _name(one)
        found[name] = max(value, found.get(name, value))
    return found


def _name(token: Row) -> str:
    """The token's text, or its bytes where they are no whole characters and their text is one of many."""
    spelt = bytes(token["bytes"])
    try:
        spelt.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelt)
    return str(token["token"])


def _finite(value: float | None) -> float:
    return LEAST if value is None or value < LEAST else value
