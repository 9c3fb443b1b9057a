"""What an answer says once names and signs of equality are taken off it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import sympy

_ROUNDING = re.compile(r"\b(?:round|nearest|approximat\w*|decimal places?|significant)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer: its text, and the SymPy object that it was read as."""

    text: str
    value: Any


Holds = tuple[bool | None, str]
"""Whether an answer holds, None for unknown, and the reason as a sentence for the client."""


def asks_for_rounding(prompt: str) -> bool:
    """Whether the question wants a rounded value."""
    return _ROUNDING.search(prompt) is not None


def value_of(value: Any, beside: Any = None) -> Any:
    """`x = 3` as 3, several of them as a Tuple; unless `beside` is an equation too."""
    if isinstance(beside, sympy.Eq) and isinstance(value, sympy.Eq) and not _assigns(beside):
        return value
    if isinstance(value, sympy.Tuple):
        return sympy.Tuple(*map(value_of, value))
    return value.rhs if isinstance(value, sympy.Eq) else value


def assignments(value: Any) -> dict[Any, list[Any]]:
    """Variable -> values of `x = 2, y = 3` or `x = 2 or x = 3`; empty if anything else is among them."""
    found: dict[Any, list[Any]] = {}
    for part in value if isinstance(value, sympy.Tuple) else [value]:
        given = _assigned(part)
        if not given:
            return {}
        for name, some in given.items():
            found.setdefault(name, []).extend(some)
    return found


def _assigned(part: Any) -> dict[Any, list[Any]]:
    if not isinstance(part, sympy.Eq):
        return {}
    left, right = part.lhs, part.rhs
    values = list(right) if isinstance(right, sympy.Tuple) else [right]
    if isinstance(left, sympy.Symbol):
        return {left: values}
    if isinstance(left, sympy.Tuple) and len(left) == len(values) and all(one.is_Symbol for one in left):
        return {name: [one] for name, one in zip(left, values, strict=True)}  # (x, y) = (7, 3)
    return {}


def _assigns(equation: Any) -> bool:
    return isinstance(equation.lhs, sympy.Symbol) and not equation.rhs.free_symbols
