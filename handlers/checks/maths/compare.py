"""Compares two SymPy objects: True if they are equal, False if not, None if it cannot be decided.

Expressions are compared at points rather than by `simplify`, which may take minutes on a short formula.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import math_verify
import sympy

# It warns about every call without a time limit, but its time limits work in the main thread only.
logging.getLogger("math_verify").setLevel(logging.ERROR)

_POINTS = tuple(
    map(sympy.Rational, ("0.7310585", "1.6180341", "2.7235921", "-0.4142131", "-1.7320507", "5.1961523"))
)
_CLOSE = sympy.Float("1e-12")
_FEW_DIGITS = 3
_DECIMAL = re.compile(r"[-+]?(?:(?<!\d)\d++)?\.\d+")


def same(value: Any, truth: Any) -> bool | None:
    """True if `value` equals `truth` exactly; sequences are compared as sets unless they are matrices."""
    if isinstance(truth, sympy.MatrixBase) or isinstance(value, sympy.MatrixBase):
        if isinstance(value, sympy.Tuple) and 1 in truth.shape:
            value = sympy.Matrix(list(value)).reshape(*truth.shape) if len(value) == len(truth) else value
        if not (isinstance(value, sympy.MatrixBase) and isinstance(truth, sympy.MatrixBase)):
            return False
        if value.shape != truth.shape:
            return False
        return all(same_expression(a, b) for a, b in zip(value, truth, strict=True))
    if isinstance(truth, sympy.Tuple) or isinstance(value, sympy.Tuple):
        return same_members(list(_members(value)), list(_members(truth)))
    if isinstance(truth, sympy.Expr) and isinstance(value, sympy.Expr):
        return same_expression(value, truth)
    if value == truth:
        return True
    ours, theirs = _as_set(value), _as_set(truth)
    if ours is not None and theirs is not None:
        return bool(ours == theirs)
    return True if math_verify.verify(truth, value, timeout_seconds=None) else None


def same_members(values: list[Any], truths: list[Any]) -> bool | None:
    """True if both have the same members, in any order; repeated ones count once."""
    missing = [truth for truth in truths if not any(same(value, truth) for value in values)]
    extra = [value for value in values if not any(same(value, truth) for truth in truths)]
    return not missing and not extra


def same_expression(value: Any, truth: Any) -> bool | None:
    """True if two expressions agree wherever both are defined over the reals; None if too few points tell."""
    if value == truth:
        return True
    if not (value.is_finite is not False and truth.is_finite is not False):
        return False
    symbols = sorted(value.free_symbols | truth.free_symbols, key=str)
    if not symbols:
        return _same_number(value, truth)
    agreed = 0
    for start in range(len(_POINTS)):
        at = {
            symbol: _POINTS[(start + 2 * index) % len(_POINTS)] + index
            for index, symbol in enumerate(symbols)
        }
        verdict = _same_number(value.subs(at), truth.subs(at), real=True)
        if verdict is False:
            return False
        agreed += verdict is True
    return True if agreed > 1 else None


def same_rounded(value: Any, text: str, truth: Any, *, rounded: bool = False) -> bool | None:
    """As `same`, but a decimal `text` may be the rounded truth; None where it has too few digits to decide.

    `rounded` says that the question itself asks for a rounded value.
    """
    if not (isinstance(value, sympy.Expr) and isinstance(truth, sympy.Expr)) or not (
        value.is_number and truth.is_number
    ):
        return same(value, truth)
    if same_expression(value, truth):
        return True
    digits = _DECIMAL.search(text)
    if digits is None and not rounded:
        return False
    places = len(digits[0].partition(".")[2]) if digits else 0
    gap = abs(sympy.N(value - truth, 30))
    unit = sympy.Rational(1, 10**places)
    if not gap.is_comparable or gap >= unit:
        return False
    known = len(re.sub(r"\D", "", digits[0]).lstrip("0")) if digits else 0
    return True if gap <= unit / 2 and (rounded or known >= _FEW_DIGITS) else None


def _same_number(value: Any, truth: Any, *, real: bool = False) -> bool | None:
    if value.is_Rational and truth.is_Rational:
        return bool(value == truth)
    left, right = sympy.N(value, 25), sympy.N(truth, 25)
    if not (left.is_number and right.is_number) or {left, right} & {
        sympy.nan,
        sympy.zoo,
        sympy.oo,
        -sympy.oo,
    }:
        return None
    gap = abs(sympy.N(left - right, 25))
    if not gap.is_comparable:
        return None
    if gap <= _CLOSE * (1 + abs(right)):
        return True
    # Outside the reals correct answers differ by their branch (ln x and ln|x|).
    return None if real and not (left.is_real and right.is_real) else False


def _members(value: Any) -> Any:
    return value if isinstance(value, (sympy.Tuple, sympy.FiniteSet)) else [value]


def _as_set(value: Any) -> Any:
    if isinstance(value, sympy.Set):
        return value
    if not isinstance(value, sympy.logic.boolalg.Boolean) or len(value.free_symbols) != 1:
        return None
    try:
        return value.as_set()
    except NotImplementedError:
        return None
