"""Answers questions for a named quantity exactly: greatest common divisor, mean, determinant and others."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sympy

from handlers.checks.maths.notation import NotMaths
from handlers.checks.maths.parser import parse

MAX_ENTRIES = 100
# A question arrives here as one line with single spaces between its words.
_ASK = re.compile(
    r"^(?:please )?(?:what (?:is|are)|what's|compute|calculate|evaluate|find|determine)? ?(?:the )?",
    re.IGNORECASE,
)
_OF = r"(?: of)?(?: the)?(?: following)?(?: (?:numbers|data set|dataset|data|values|list|set|matrix))? ?:? ?"


def recognise(question: str) -> tuple[Any, ...] | None:
    """The true value; None if the question names no known quantity."""
    text = _ASK.sub("", question, count=1)
    for pattern, value in _FORMS:
        if found := pattern.fullmatch(text):
            return (value(*found.groups()),)
    return None


def _numbers(text: str) -> list[Any]:
    values = [parse(part) for part in re.split(r",|\band\b", text.strip(" []{}()")) if part.strip()]
    if not values or len(values) > MAX_ENTRIES or not all(value.is_number for value in values):
        raise NotMaths("not a list of numbers")
    return values


def _integers(text: str) -> list[Any]:
    values = _numbers(text)
    if not all(value.is_Integer for value in values):
        raise NotMaths("not a list of integers")
    return values


def _of_integers(function: Callable[[list[Any]], Any]) -> Callable[[str], Any]:
    return lambda text: function(_integers(text))


def _of_numbers(function: Callable[[list[Any]], Any]) -> Callable[[str], Any]:
    return lambda text: function(_numbers(text))


def _of_matrix(function: Callable[[Any], Any]) -> Callable[[str], Any]:
    def value(text: str) -> Any:
        matrix = parse(text)
        if not isinstance(matrix, sympy.MatrixBase) or max(matrix.shape) > 6:
            raise NotMaths("not a small matrix")
        return function(matrix)

    return value


def _inverse(matrix: Any) -> Any:
    if matrix.rows != matrix.cols or matrix.det() == 0:
        raise NotMaths("no inverse")
    return matrix.inv()


def _mean(values: list[Any]) -> Any:
    return sum(values) / sympy.Integer(len(values))


def _median(values: list[Any]) -> Any:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else _mean(ordered[middle - 1 : middle + 1])


def _mode(values: list[Any]) -> Any:
    counts = {value: values.count(value) for value in values}
    most = [value for value, count in counts.items() if count == max(counts.values())]
    if len(most) != 1:
        raise NotMaths("no single mode")
    return most[0]


def _variance(values: list[Any]) -> Any:
    mean = _mean(values)
    return _mean([(value - mean) ** 2 for value in values])


def _sample_variance(values: list[Any]) -> Any:
    if len(values) < 2:
        raise NotMaths("one value has no sample variance")
    return _variance(values) * len(values) / (len(values) - 1)


def _dot(left: str, right: str) -> Any:
    a, b = _numbers(left), _numbers(right)
    if len(a) != len(b):
        raise NotMaths("vectors of different lengths")
    return sum(x * y for x, y in zip(a, b, strict=True))


def _modulo(dividend: str, divisor: str) -> Any:
    a, b = parse(dividend), parse(divisor)
    if not (a.is_Integer and b.is_Integer and b > 0):
        raise NotMaths("no remainder")
    return a % b


def _arranged(n: str, k: str) -> Any:
    total, taken = _integers(f"{n}, {k}")
    if not 0 <= taken <= total <= 3000:
        raise NotMaths("no such arrangement")
    return sympy.ff(total, taken)


def _form(pattern: str, value: Callable[..., Any]) -> tuple[re.Pattern[str], Callable[..., Any]]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL), value


_FORMS = (
    _form(r"(?:gcd|gcf|hcf|greatest common (?:divisor|factor))(?: of)? ?(.+)", _of_integers(sympy.gcd)),
    _form(r"(?:lcm|(?:least|lowest) common multiple)(?: of)? ?(.+)", _of_integers(sympy.lcm)),
    _form(r"(?:arithmetic )?(?:mean|average)" + _OF + r"(.+)", _of_numbers(_mean)),
    _form(r"median" + _OF + r"(.+)", _of_numbers(_median)),
    _form(r"mode" + _OF + r"(.+)", _of_numbers(_mode)),
    _form(r"range" + _OF + r"(.+)", _of_numbers(lambda v: max(v) - min(v))),
    _form(r"population variance" + _OF + r"(.+)", _of_numbers(_variance)),
    _form(r"sample variance" + _OF + r"(.+)", _of_numbers(_sample_variance)),
    _form(r"population standard deviation" + _OF + r"(.+)", _of_numbers(lambda v: sympy.sqrt(_variance(v)))),
    _form(
        r"sample standard deviation" + _OF + r"(.+)", _of_numbers(lambda v: sympy.sqrt(_sample_variance(v)))
    ),
    _form(r"sum" + _OF + r"(-?\d.*,.*)", _of_numbers(sum)),
    _form(r"det(?:erminant)?" + _OF + r"(.+)", _of_matrix(lambda m: m.det())),
    _form(r"trace" + _OF + r"(.+)", _of_matrix(lambda m: m.trace())),
    _form(r"rank" + _OF + r"(.+)", _of_matrix(lambda m: sympy.Integer(m.rank()))),
    _form(r"transpose" + _OF + r"(.+)", _of_matrix(lambda m: m.T)),
    _form(r"inverse" + _OF + r"(.+)", _of_matrix(_inverse)),
    _form(r"eigenvalues" + _OF + r"(.+)", _of_matrix(lambda m: sympy.Tuple(*m.eigenvals()))),
    _form(r"dot product of ?([\[(].{1,200}?[\])]) ?and ?([\[(].{1,200}?[\])])", _dot),
    _form(r"remainder (?:when|of|if) (.+?) (?:is )?divided by (.+)", _modulo),
    _form(r"(.+?) (?:mod|modulo) (.+)", _modulo),
    _form(r"(\d+) choose (\d+)", lambda n, k: sympy.binomial(*_integers(f"{n}, {k}"))),
    _form(r"P\((\d+), ?(\d+)\)", _arranged),
    _form(r"square root of (.+)", lambda text: sympy.sqrt(parse(text))),
    _form(r"(.+?) squared", lambda text: parse(f"({text})^2")),
    _form(r"(.+?) cubed", lambda text: parse(f"({text})^3")),
    _form(r"sum of (.+?) and (.+)", lambda a, b: parse(f"({a})+({b})")),
    _form(r"difference (?:of|between) (.+?) and (.+)", lambda a, b: parse(f"({a})-({b})")),
    _form(r"product of (.+?) and (.+)", lambda a, b: parse(f"({a})*({b})")),
    _form(r"(.+?) plus (.+)", lambda a, b: parse(f"({a})+({b})")),
    _form(r"(.+?) minus (.+)", lambda a, b: parse(f"({a})-({b})")),
    _form(r"(.+?) times (.+)", lambda a, b: parse(f"({a})*({b})")),
    _form(r"(.+?) divided by (.+)", lambda a, b: parse(f"({a})/({b})")),
)  # fmt: skip
