"""Which numbers of an answer stand in what it was told, rounded as the answer rounds them.

Knows digits only: a number that is right but was computed by the model counts as not supported.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import Any

MOST_CLAIMS = 200
NUMBER = re.compile(
    r"(?<![\w.])(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)"
    r"(?:\s?(?P<scale>%|thousand\b|million\b|billion\b|k\b|m\b|bn\b))?",
    re.IGNORECASE,
)
SCALES = {"%": 0.01, "thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6, "billion": 1e9, "bn": 1e9}
ITEM = re.compile(r"^[^\S\n]*+\d{1,3}[.)]\s", re.MULTILINE)


def unsupported(text: str, known: Iterable[float]) -> list[str]:
    """The numbers of `text`, as written and each once, that round to none of `known`; signs do not count."""
    values = sorted({abs(value) for value in known if isfinite(value)})
    found: dict[str, None] = {}
    for match in NUMBER.finditer(ITEM.sub("\n", text)):
        written = match[0].strip()
        if written not in found and not _stands(match, values):
            found[written] = None
            if len(found) == MOST_CLAIMS:
                break
    return list(found)


def numbers_in(value: Any) -> Iterator[float]:
    """Every number of a JSON value, those in its texts included."""
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, str):
        yield from (float(match["number"].replace(",", "")) for match in NUMBER.finditer(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def _stands(match: re.Match[str], values: Sequence[float]) -> bool:
    digits, _, exponent = match["number"].replace(",", "").lower().partition("e")
    power = int(exponent or 0)
    half = float(f"5e{power - len(digits.partition('.')[2]) - 1}")
    claim = float(f"{digits}e{power}")
    # `3 m` may be three million or three metres.
    units = {1.0, SCALES.get((match["scale"] or "").lower(), 1.0)}
    return isfinite(claim) and any(
        _lies_within(values, (claim - half) * unit, (claim + half) * unit) for unit in units
    )


def _lies_within(values: Sequence[float], low: float, high: float) -> bool:
    slack = 1e-9 * high
    first = bisect_left(values, low - slack)
    return first < len(values) and values[first] <= high + slack
