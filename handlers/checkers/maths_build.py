"""Numbers, powers and functions for the parser of plain notation, none of which can fill the memory.

`FUNCTIONS` maps a name to its SymPy function; those of `TWO` take several arguments in brackets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy

from handlers.checkers.maths_tokens import NotMaths

MAX_BITS = 200_000
TWO = {"gcd", "lcm", "binomial", "root", "C", "nCr"}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan,
    "sec": sympy.sec, "csc": sympy.csc, "cot": sympy.cot,
    "asin": sympy.asin, "acos": sympy.acos, "atan": sympy.atan,
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan,
    "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh,
    "asinh": sympy.asinh, "acosh": sympy.acosh, "atanh": sympy.atanh,
    "exp": sympy.exp, "sqrt": sympy.sqrt, "cbrt": sympy.cbrt, "root": sympy.root, "abs": sympy.Abs,
    "floor": sympy.floor, "ceil": sympy.ceiling, "ceiling": sympy.ceiling, "min": sympy.Min, "max": sympy.Max,
    "gcd": sympy.gcd, "lcm": sympy.lcm,
    "binomial": sympy.binomial, "C": sympy.binomial, "nCr": sympy.binomial,
    "factorial": lambda value: factorial(value),
}  # fmt: skip


def number(text: str) -> Any:
    """A number exactly as it is written, decimals as fractions."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > 400 or (exponent and abs(int(exponent[:6])) > 400):
        raise NotMaths("a number of hundreds of digits")
    return sympy.Rational(mantissa) * sympy.Integer(10) ** int(exponent or 0)


def power(base: Any, exponent: Any) -> Any:
    """`base` to the `exponent`; NotMaths where the number would fill the memory."""
    if isinstance(base, sympy.MatrixBase):
        if not (exponent.is_Integer and abs(exponent) <= 100):
            raise NotMaths("this power of a matrix")
    elif exponent.is_Rational and base.is_Rational:
        bits = max(abs(base.p), base.q).bit_length()
        if abs(exponent.p) // exponent.q * bits > MAX_BITS:
            raise NotMaths("a number of thousands of digits")
    return base**exponent


def factorial(value: Any) -> Any:
    """`value`!; NotMaths from 3,000 on."""
    if value.is_number and abs(value) > 3000:
        raise NotMaths("a number of thousands of digits")
    return sympy.factorial(value)


def quotient(value: Any, divisor: Any) -> Any:
    """`value` / `divisor`; NotMaths for zero."""
    if divisor == 0:
        raise NotMaths("a division by zero")
    return value / divisor


def apply(name: str, argument: Any) -> Any:
    """The function called `name` of one argument, or of the several of `min` and `max`."""
    many = isinstance(argument, sympy.Tuple)
    if many != (name in ("min", "max")):
        raise NotMaths(f"{name} has another number of arguments")
    return FUNCTIONS[name](*argument) if many else FUNCTIONS[name](argument)
