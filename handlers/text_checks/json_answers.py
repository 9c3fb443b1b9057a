"""An answer that was to be JSON: the value, or nothing; never a repaired guess."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


def read_json(text: str) -> Any:
    """The value in `text`, which a fence may surround; ValueError where it is not whole or not strict."""
    fenced = FENCED.fullmatch(text)
    try:
        value = json.loads(
            fenced[1] if fenced else text, parse_constant=_refuse, parse_int=_whole, parse_float=_finite
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    json.dumps(value, ensure_ascii=False).encode()  # half a character, \ud800, is no text
    return value


def read_items(text: str) -> list[dict[str, Any]] | None:
    """The objects under `items`, or of a bare list; None where the answer has no such form."""
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
        raise ValueError("a number that few programs read")
    return value


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("a number beyond all floats")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
