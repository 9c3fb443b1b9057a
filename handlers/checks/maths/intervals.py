"""Intervals of numbers and unions of them, as answers write them: `[2, 5)`, `(-oo, 1) U (3, oo)`.

`(2, 5)` is an interval only if the caller says so (`sure` False); elsewhere it is a point.
"""

from __future__ import annotations

import re

import sympy

from handlers.checks.maths.notation import NotMaths, plain
from handlers.checks.maths.parser import parse

_MEMBER = re.compile(r"\s*[a-z]\s+in\s+(?=[\[({])")
_BETWEEN = re.compile(r"(?<=\s)(?:cup|union|or|U)(?=\s)")
_PART = re.compile(r"\s*([\[(])([^\[\]{},;]+)[,;]([^\[\]{},;]+)([\])])\s*")


def interval(text: str, *, sure: bool = True) -> sympy.Basic | None:
    """The set that `text` writes as intervals, a Tuple if it lists its members; None for any other text.

    With `sure` only unambiguous forms count: half-open, unbounded, a union, or `x in` before the interval.
    """
    try:
        spelled = plain(text)
        member = _MEMBER.match(spelled)
        found = [_PART.fullmatch(part) for part in _BETWEEN.split(spelled[member.end() if member else 0 :])]
        parts = [part.groups() for part in found if part is not None]
        if len(parts) < len(found):
            listed = parse(spelled[member.end() :]) if member else None
            return listed if isinstance(listed, sympy.Tuple) else None
        if sure and not (member or len(parts) > 1 or any(map(_is_plain, parts))):
            return None
        found_sets = []
        for opening, left, right, closing in parts:
            low, high = parse(left), parse(right)
            if not (low.is_extended_real and high.is_extended_real and low < high):
                raise NotMaths("no interval")
            found_sets.append(sympy.Interval(low, high, opening == "(", closing == ")"))
        return sympy.Union(*found_sets)
    except NotMaths:
        return None


def _is_plain(part: tuple[str, ...]) -> bool:
    opening, left, right, closing = part
    return opening + closing not in ("()", "[]") or "oo" in (left + right).split() or "-oo" in left
