"""The values of an answer, without variable names and equals signs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import sympy

_ROUNDING = re.compile(r"\b(?:round|nearest|approximat\w*|decimal places?|significant)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MathsAnswer:
    """A final answer: its text, and the SymPy object that it was read as."""

    text: str
    value: Any


Holds = tuple[bool | None, str]
"""The verdict on an answer (True, False, or None for unknown) and its reason, a sentence for the client."""


def asks_for_rounding(prompt: str) -> bool:
    """True if the question asks for a rounded value."""
    return _ROUNDING.search(prompt) is not None


def value_of(value: Any, beside: Any = None) -> Any:
    """The right side of `x = 3`, and of each member of a Tuple.

    `value` itself if `beside` is an equation to compare.
    """
    if isinstance(beside, sympy.Eq) and isinstance(value, sympy.Eq):
        assigns = isinstance(beside.lhs, sympy.Symbol) and not beside.rhs.free_symbols
        return value.rhs if assigns else value
    if isinstance(value, sympy.Tuple):
        return sympy.Tuple(*map(value_of, value))
    return value.rhs if isinstance(value, sympy.Eq) else value


def assignments(value: Any) -> dict[Any, list[Any]]:
    """Variable -> values of `x = 2, y = 3` or `x = 2 or x = 3`.

    Empty if `value` has anything but assignments.
    """
    found: dict[Any, list[Any]] = {}
    for part in value if isinstance(value, sympy.Tuple) else [value]:
        if not isinstance(part, sympy.Eq):
            return {}
        left, right = part.lhs, part.rhs
        values = list(right) if isinstance(right, sympy.Tuple) else [right]
        given: dict[Any, list[Any]] = {}
        if isinstance(left, sympy.Symbol):
            given = {left: values}
        elif (
            isinstance(left, sympy.Tuple) and len(left) == len(values) and all(one.is_Symbol for one in left)
        ):
            given = {name: [one] for name, one in zip(left, values, strict=True)}  # (x, y) = (7, 3)
        if not given:
            return {}
        for name, some in given.items():
            found.setdefault(name, []).extend(some)
    return found
