"""Recognises questions that ask to solve equations, inequalities or systems, and judges their answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sympy

from handlers.checks.maths.compare import same_expression, same_members, same_rounded
from handlers.checks.maths.intervals import interval
from handlers.checks.maths.notation import NotMaths
from handlers.checks.maths.parser import parse
from handlers.checks.maths.values import Holds, MathsAnswer, assignments, value_of

# A question arrives here with single spaces between its words.
_ASK = re.compile(
    r"^(?:please )?(?:solve|find|determine|what (?:is|are)|compute) "
    r"(?:for (?P<for>[a-z](?: ?(?:,|and) ?[a-z])*) ?(?:in|if|when|given|:|,)? ?)?"
    r"(?:all |the |real |following )*"
    r"(?:(?:solutions?|roots?|zeros?|zeroes) (?:of|to) |value of [a-z](?: ?:| if| when| given that| in) )?"
    r"(?:the |following )*"
    r"(?:(?:(?:linear|quadratic|simultaneous) )*(?:equations?|inequalit(?:y|ies)|system)"
    r"(?: of(?: linear)? equations)? ?:? ?)?",
    re.IGNORECASE,
)  # fmt: skip
_IF_FORM = re.compile(
    r"^(?:if|given(?: that)?) (?P<e>.+?),? (?:then )?(?:what is|find|solve for|determine) "
    r"(?:the value of )?(?P<x>[a-z])",
    re.IGNORECASE,
)
_FOR_TAIL = re.compile(r",? for (?:real )?(?P<x>[a-z](?: ?(?:,|and) ?[a-z])*)$", re.IGNORECASE)
_ROOTS = re.compile(r"\b(?:roots?|zeros?|zeroes)\b", re.IGNORECASE)
_BETWEEN = re.compile(r";|,(?!\d{3}\b)|\band\b|\\\\")
_CASES = re.compile(r"\\(?:begin|end)\{(?:cases|aligned|array)\}|&")
Judge = Callable[[MathsAnswer], Holds]


def recognise(question: str) -> Judge | None:
    """A judge of answers; None if the question is not an equation, inequality or system."""
    text, names = _stripped(question)
    statements = [parse(part) for part in _BETWEEN.split(text) if part.strip()]
    if len(statements) == 1 and isinstance(statements[0], sympy.Expr) and _ROOTS.search(question):
        statements = [sympy.Eq(statements[0], 0, evaluate=False)]
    if not statements or not all(isinstance(one, sympy.Rel) and one.free_symbols for one in statements):
        return None
    if len(statements) > 1:
        return _system(statements) if all(isinstance(one, sympy.Eq) for one in statements) else None
    symbols = statements[0].free_symbols
    if not names and len(symbols) != 1:
        raise NotMaths("an equation in several unknowns")
    unknown = sympy.Symbol(names[0]) if names else next(iter(symbols))
    if isinstance(statements[0], sympy.Eq):
        return lambda answer: _equation(statements[0], unknown, answer)
    return lambda answer: _inequality(statements[0], answer)


def _stripped(question: str) -> tuple[str, list[str]]:
    if found := _IF_FORM.fullmatch(question):
        return found["e"], [found["x"]]
    asked = _ASK.match(question)
    text = " ".join(_CASES.sub(" ", question[asked.end() :] if asked else question).split())
    names = (asked["for"] or "") if asked else ""
    if tail := _FOR_TAIL.search(text):
        text, names = text[: tail.start()], tail["x"]
    return text, re.findall(r"\b[a-z]\b", names)


def _equation(equation: Any, unknown: Any, answer: MathsAnswer) -> Holds:
    solutions = _solutions(equation, unknown)
    if answer.value is sympy.S.EmptySet:
        if solutions is None:
            return None, "the equation cannot be solved here"
        if solutions and all(one.is_real is not False for one in solutions):
            return False, "the equation has solutions"
        return True, "the equation has no real solution"
    values = _values(answer, unknown)
    if not values or any(value.free_symbols - equation.free_symbols for value in values):
        return None, f"the answer gives no values of {unknown}, or contains other symbols"
    if solutions and "." in answer.text:
        values = [_unrounded(value, answer.text, solutions) for value in values]
    zero = equation.lhs - equation.rhs
    if any(same_expression(zero.subs(unknown, value), sympy.Integer(0)) is False for value in values):
        return False, "a value does not satisfy the equation"
    if solutions is None:
        return None, "the values satisfy the equation; there may be further solutions"
    for wanted in (solutions, [one for one in solutions if one.is_real is not False]):
        if same_members(values, wanted):
            return True, "the solutions of the equation"
    return False, f"the equation has {len(solutions)} solutions, the answer {len(values)}"


def _unrounded(value: Any, text: str, solutions: list[Any]) -> Any:
    """The exact solution that a decimal of the answer rounds; the value itself where there is none."""
    for shown in re.findall(r"-?(?:(?<!\d)\d++)?\.\d+", text):
        if value.is_Rational and sympy.Rational(shown) == value:
            return next((one for one in solutions if same_rounded(value, shown, one)), value)
    return value


def _solutions(equation: Any, unknown: Any) -> list[Any] | None:
    zero = equation.lhs - equation.rhs
    # Equations with periodic functions have more solutions than `solve` lists.
    if zero.has(sympy.sin, sympy.cos, sympy.tan) and not zero.is_polynomial(unknown):
        return None
    if zero.has(sympy.Abs):
        unknown = sympy.Symbol(unknown.name, real=True)
        zero = zero.subs(sympy.Symbol(unknown.name), unknown)
    try:
        return list(sympy.solve(zero, unknown))
    except NotImplementedError:
        return None


def _values(answer: MathsAnswer, unknown: Any) -> list[Any]:
    given = assignments(answer.value)
    if given:  # x_1 = 2 and x_2 = 3 are values of x
        return [
            one for name, some in given.items() if str(name).partition("_")[0] == str(unknown) for one in some
        ]
    value = value_of(answer.value)
    members = list(value) if isinstance(value, sympy.Tuple) else [value]
    return [part for one in members for part in (one if isinstance(one, sympy.Tuple) else [one])]


def _system(equations: list[Any]) -> Judge:
    unknowns = sorted(set().union(*(one.free_symbols for one in equations)), key=str)

    def judge(answer: MathsAnswer) -> Holds:
        given = assignments(answer.value)
        value = answer.value
        if not given and isinstance(value, sympy.Tuple) and len(value) == len(unknowns):
            given = {name: [one] for name, one in zip(unknowns, value, strict=True)}
        if any(len(values) > 1 for values in given.values()) or set(given) != set(unknowns):
            return None, "the answer does not give one value for each unknown"
        at = {name: values[0] for name, values in given.items()}
        held = [same_expression((one.lhs - one.rhs).subs(at), sympy.Integer(0)) for one in equations]
        if all(held):
            solutions = sympy.solve(equations, unknowns, dict=True)
            if len(solutions) == 1:
                return True, "all equations are satisfied"
            return None, f"all equations are satisfied, but there are {len(solutions)} solutions"
        return (False, "an equation is not satisfied") if False in held else (None, "it cannot be evaluated")

    return judge


def _inequality(inequality: Any, answer: MathsAnswer) -> Holds:
    value = interval(answer.text, sure=False) or answer.value
    if isinstance(value, sympy.Tuple) and all(isinstance(part, sympy.Rel) for part in value):
        value = sympy.Or(*value)
    is_relation = isinstance(value, sympy.logic.boolalg.Boolean)
    if not isinstance(value, sympy.Set) and not (
        is_relation and value.free_symbols == inequality.free_symbols
    ):
        return None, "the answer is not an inequality"
    try:
        wanted = sympy.solve_univariate_inequality(
            inequality, next(iter(inequality.free_symbols)), relational=False
        )
        given = value if isinstance(value, sympy.Set) else value.as_set()
    except NotImplementedError:
        return None, "the inequality cannot be solved here"
    return (True, "the solution set") if wanted == given else (False, f"the solution set is {wanted}")
