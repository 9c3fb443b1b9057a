"""Recognises questions for a derivative, integral, limit or sum, in words or LaTeX, and solves them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sympy

from handlers.checks.maths.compare import same_expression
from handlers.checks.maths.notation import NotMaths
from handlers.checks.maths.parser import parse
from handlers.checks.maths.values import Holds, MathsAnswer, value_of

# A question arrives here as one line with single spaces between its words.
_ASK = (
    r"(?:please )?(?:what is|what's|compute|calculate|evaluate|find|determine|solve|work out)? ?"
    r"(?:the )?"
)
_SCRIPT = r"(?:\{((?:[^{}]|\{[^{}]*\})*)\}|(\\?[\w.]{1,20}|-\d{1,20}))"
_BY = r"(?: with respect to (?P<by>[a-z]))?"
_DERIVATIVE = re.compile(
    _ASK + r"(?P<order>first|second|third)? ?"
    r"(?:derivative of|differentiate|d(?:\^2)?/d(?P<d>[a-z])(?:\^2)?(?: of)?) "
    r"(?:the function )?(?:[fgyh](?:\([a-z]\))? ?= ?)?(?P<f>.+?)" + _BY + r"(?: at (?P<at>.+))?",
    re.IGNORECASE | re.DOTALL,
)  # fmt: skip
_LATEX_DERIVATIVE = re.compile(_ASK + r"\\frac\{d\}\{d(?P<d>[a-z])\} ?(?P<f>.+)", re.IGNORECASE | re.DOTALL)
_GIVEN_DERIVATIVE = re.compile(
    r"(?:if|let|given) (?P<n>[fgyh])(?:\([a-z]\))? ?= ?(?P<f>.+?)[,.;]? "
    r"(?:what is|find|compute|determine) "
    r"(?:(?P=n)'(?:\([a-z]\))?|dy/dx|the derivative)",
    re.IGNORECASE | re.DOTALL,
)
_INTEGRAL = re.compile(
    _ASK + r"(?P<kind>definite |indefinite )?(?:integral of|integrate|anti-?derivative of) "
    r"(?:the function )?(?:[fgh]\([a-z]\) ?= ?)?(?P<f>.+?)(?: d(?P<d>[a-z]))?" + _BY
    + r"(?: (?:from|between) (?:[a-z] ?= ?)?(?P<a>.{1,100}?) (?:to|and) (?:[a-z] ?= ?)?(?P<b>.+?))?"
    r"(?: with respect to [a-z])?",
    re.IGNORECASE | re.DOTALL,
)  # fmt: skip
_SIGN_INTEGRAL = re.compile(
    _ASK + r"(?:(?:definite |indefinite )?integral ?:? ?)?(?:\\int|∫) ?(?:\\limits)?"
    rf"(?:_ ?{_SCRIPT} ?\^ ?{_SCRIPT})? ?(?P<f>.*?) ?d(?P<d>[a-z])",
    re.IGNORECASE | re.DOTALL,
)
_LIMIT = re.compile(
    _ASK + r"limit of (?:[fgh]\([a-z]\) ?= ?)?(?P<f>.+?) as (?P<x>[a-z]) ?"
    r"(?:approaches|goes to|tends to|->|→|\\to) ?"
    r"(?P<a>.+?)(?: from the (?P<side>left|right|above|below))?",
    re.IGNORECASE | re.DOTALL,
)  # fmt: skip
_SIGN_LIMIT = re.compile(
    _ASK + r"(?:limit ?:? ?)?\\?lim ?(?:_ ?)?[({]? ?(?P<x>[a-z]) ?(?:->|→|\\to|\\rightarrow) ?"
    r"(?P<a>[-+]?\\?\w+(?:/\w+)?)(?:\^?\{?(?P<side>[+-])\}?)? ?[)}]? ?(?:of )?(?P<f>.+)",
    re.IGNORECASE | re.DOTALL,
)
_SUM = re.compile(
    _ASK + rf"(?:sum ?:? ?)?\\sum ?_\{{ ?(?P<x>[a-z]) ?= ?(?P<a>[^}}]+)\}} ?\^ ?{_SCRIPT} ?(?P<f>.+)",
    re.IGNORECASE | re.DOTALL,
)
_SIDES = {"left": "-", "below": "-", "-": "-", "right": "+", "above": "+", "+": "+"}
_ORDERS = {"first": 1, "second": 2, "third": 3}
Result = tuple[Any, ...] | Callable[[MathsAnswer], Holds] | None


def recognise(question: str) -> Result:
    """The possible true values, or a judge of answers; None if it is not a question of calculus."""
    for pattern, form in _FORMS:
        if found := pattern.fullmatch(question):
            return form(found)
    return None


def _derivative(found: re.Match[str]) -> Result:
    groups = found.groupdict()
    function = parse(found["f"])
    by = _variable(function, groups.get("by") or groups.get("d"))
    order = _ORDERS.get((groups.get("order") or "").lower(), 2 if "^2" in found[0][: found.start("f")] else 1)
    slope = sympy.diff(function, by, order)
    if not groups.get("at"):
        return (slope,)
    place = parse(groups["at"])
    return (slope.subs(by, value_of(place)),)


def _integral(found: re.Match[str]) -> Result:
    function = parse(found["f"])
    by = _variable(function, found["d"] or found["by"])
    if found["a"] is None:
        return _antiderivative(function, by)
    return _definite(function, by, parse(found["a"]), parse(found["b"]))


def _sign_integral(found: re.Match[str]) -> Result:
    by = sympy.Symbol(found["d"])
    function = parse(found["f"] or "1")
    low, high = found[1] or found[2], found[3] or found[4]
    if low is None:
        return _antiderivative(function, by)
    return _definite(function, by, parse(low), parse(high))


def _definite(function: Any, by: Any, low: Any, high: Any) -> Result:
    integral = sympy.Integral(function, (by, low, high))
    value = integral.doit()
    if value.has(sympy.Integral):
        value = integral.evalf(20)
    if value.has(sympy.nan, sympy.Integral):
        raise NotMaths("an integral without a value")
    return (value,)


def _antiderivative(function: Any, by: Any) -> Callable[[MathsAnswer], Holds]:
    def judge(answer: MathsAnswer) -> Holds:
        value = value_of(answer.value)
        if not isinstance(value, sympy.Expr):
            return None, "the answer is not a function"
        # Over the reals |x| has a plain derivative.
        real = sympy.Symbol(str(by), real=True)
        slope = sympy.diff(value.subs(by, real), real).subs(real, by)
        holds = same_expression(slope, function)
        return (
            holds,
            f"its derivative is {'' if holds else 'not ' if holds is False else 'perhaps '}the integrand",
        )

    return judge


def _limit(found: re.Match[str]) -> Result:
    by = sympy.Symbol(found["x"])
    side = _SIDES.get((found["side"] or "").lower(), "")
    function, place = parse(found["f"]), parse(found["a"])
    directions = [side] if side else ["+", "-"] if place.is_finite else ["+"]
    values = {sympy.limit(function, by, place, direction) for direction in directions}
    if len(values) > 1:
        return _no_limit
    if any(value.has(sympy.Limit, sympy.AccumBounds, sympy.nan) for value in values):
        raise NotMaths("a limit that does not exist")
    return tuple(values)


def _no_limit(answer: MathsAnswer) -> Holds:
    if answer.value is sympy.S.EmptySet:
        return True, "the limits from both sides differ"
    return False, "the limit does not exist: the one-sided limits differ"


def _sum(found: re.Match[str]) -> Result:
    by = sympy.Symbol(found["x"])
    low, high = parse(found["a"]), parse(found[3] or found[4])
    return (sympy.summation(parse(found["f"]), (by, low, high)),)


def _variable(function: Any, named: str | None) -> Any:
    if named:
        return sympy.Symbol(named)
    symbols = function.free_symbols
    if len(symbols) == 1:
        return next(iter(symbols))
    if not symbols or sympy.Symbol("x") in symbols:
        return sympy.Symbol("x")
    raise NotMaths("a function of several variables")


_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Result]], ...] = (
    (_DERIVATIVE, _derivative),
    (_LATEX_DERIVATIVE, _derivative),
    (_GIVEN_DERIVATIVE, _derivative),
    (_SIGN_INTEGRAL, _sign_integral),
    (_INTEGRAL, _integral),
    (_SIGN_LIMIT, _limit),
    (_LIMIT, _limit),
    (_SUM, _sum),
)
