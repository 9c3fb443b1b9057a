"""Reads an answer that should be JSON: its value or nothing, and never a repaired guess."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

FENCE = "```"


def read_json(text: str) -> Any:
    """The value in `text`, which a code fence may surround.

    ValueError if it is incomplete or not strict JSON.
    """
    opening, _, rest = text.strip().partition("\n")
    if opening.rstrip() in (FENCE, f"{FENCE}json") and rest.endswith(FENCE):
        text = rest.removesuffix(FENCE).strip()
    try:
        value = json.loads(text, parse_constant=_refuse, parse_int=_whole, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair (\ud800) is not text
    return value


def read_items(text: str) -> list[dict[str, Any]] | None:
    """The objects under `items`, or those of a bare list; None if the answer has another form."""
    try:
        value = read_json(text)
    except ValueError:
        return None
    items = value.get("items") if isinstance(value, dict) else value
    whole = isinstance(items, list) and all(isinstance(item, dict) for item in items)
    return items if whole else None


def _whole(digits: str) -> int:
    value = int(digits)
    if not -(2**63) <= value < 2**64:
        raise ValueError("a number that few programs can read")
    return value


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("a number beyond the range of floats")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not valid JSON")
