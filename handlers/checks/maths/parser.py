"""Plain mathematical notation to SymPy, by a parser that can build expressions and do nothing else.

SymPy's own `sympify` and `parse_expr` evaluate Python, so they never get text of users or models. Ambiguous
text (`1/2x`) is refused: no verdict is better than a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy
from sympy import Symbol

from handlers.checks.maths.notation import (
    FUNCTIONS,
    TWO,
    NotMaths,
    Token,
    apply,
    factorial,
    number,
    plain,
    power,
    quotient,
    tokens,
)

MAX_DEPTH = 60
RELATIONS: dict[str, Callable[..., Any]] = {
    "=": sympy.Eq, "==": sympy.Eq, "<": sympy.Lt, ">": sympy.Gt, "<=": sympy.Le, ">=": sympy.Ge,
    "!=": sympy.Ne,
}  # fmt: skip
_CONSTANTS = {
    "pi": sympy.pi, "e": sympy.E, "i": sympy.I, "oo": sympy.oo, "inf": sympy.oo, "infinity": sympy.oo,
}  # fmt: skip
_GREEK = {"alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "sigma", "phi", "omega", "rho", "tau"}
_OPEN = {"(": ")", "[": "]", "{": "}"}


def parse(text: str, log_base: int | None = None) -> Any:
    """`text` as a SymPy object: expression, relation, Tuple of them, or Matrix; NotMaths for anything else.

    `log` without a base is the natural logarithm, or the one to `log_base`.
    """
    parser = _Parser(tokens(plain(text)), log_base)
    try:
        return parser.whole()
    except (TypeError, ValueError, AttributeError, ZeroDivisionError, RecursionError) as error:
        raise error if isinstance(error, NotMaths) else NotMaths("SymPy cannot interpret it") from error


class _Parser:
    def __init__(self, found: list[Token], log_base: int | None) -> None:
        self._tokens = found
        self._at = 0
        self._depth = 0
        self._log_base = log_base

    def whole(self) -> Any:
        parts = [self._statement()]
        while self._take(",", ";") or self._take_name("or", "and"):
            parts.append(self._statement())
        if self._now.kind != "end":
            raise NotMaths(f"{self._now.text!r} is unexpected")
        return parts[0] if len(parts) == 1 else sympy.Tuple(*parts)

    @property
    def _now(self) -> Token:
        return self._tokens[self._at]

    def _take(self, *texts: str) -> str:
        if self._now.kind == "op" and self._now.text in texts:
            self._at += 1
            return self._tokens[self._at - 1].text
        return ""

    def _take_name(self, *names: str) -> str:
        if self._now.kind == "name" and self._now.text in names:
            self._at += 1
            return self._tokens[self._at - 1].text
        return ""

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise NotMaths(f"{text!r} is missing")

    def _statement(self) -> Any:
        sides, signs = [self._sum()], []
        while sign := self._take(*RELATIONS):
            signs.append(sign)
            sides.append(self._sum())
        if len(signs) > 1 and set(signs) <= {"=", "=="}:  # x = 10/2 = 5
            sides, signs = [sides[0], sides[-1]], signs[:1]
        links = [
            RELATIONS[sign](left, right, evaluate=False)
            for sign, left, right in zip(signs, sides, sides[1:], strict=False)
        ]
        return sides[0] if not links else links[0] if len(links) == 1 else sympy.And(*links)

    def _sum(self) -> Any:
        if self._take("±", "+-"):
            value = self._product()
            return sympy.Tuple(-value, value)
        value = self._product()
        while sign := self._take("+", "-", "±", "+-"):
            right = self._product()
            if sign in ("±", "+-"):
                return sympy.Tuple(value - right, value + right)
            value = value + right if sign == "+" else value - right
        return value

    def _product(self) -> Any:
        value, divided = self._factor(), False
        while True:
            if self._take("*"):
                value, divided = value * self._factor(), False
            elif self._take("/"):
                value, divided = quotient(value, self._factor()), True
            elif self._take_name("mod"):
                value, divided = sympy.Mod(value, self._factor()), False
            elif self._take_name("of"):
                value, divided = value * self._factor(), False
            elif self._starts_factor():
                if divided and not self._now.spaced and self._tokens[self._at - 1].text not in _OPEN.values():
                    raise NotMaths("a/bc could be (a/b)c or a/(bc)")
                value *= self._factor()
            else:
                return value

    def _starts_factor(self) -> bool:
        if self._now.kind == "name":
            return self._now.text not in ("or", "and", "mod", "of")
        return (self._now.kind == "number" and self._tokens[self._at - 1].kind != "number") or (
            self._now.kind == "op" and self._now.text in ("(", "[")
        )

    def _factor(self) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotMaths("nested too deeply")
        try:
            if self._take("-"):
                return -self._factor()
            if self._take("+"):
                return self._factor()
            value = self._atom()
            while sign := self._take("!", "%", "°"):
                if sign == "!":
                    value = factorial(value)
                else:
                    value = value / 100 if sign == "%" else value * sympy.pi / 180
            return power(value, self._factor()) if self._take("^", "**") else value
        finally:
            self._depth -= 1

    def _atom(self) -> Any:
        token = self._now
        self._at += 1
        if token.kind == "number":
            return number(token.text)
        if token.kind == "name":
            return self._named(token.text)
        if token.text == "|":
            value = self._sum()
            self._need("|")
            return sympy.Abs(value)
        if token.text in _OPEN:
            return self._bracketed(token.text)
        raise NotMaths(f"{token.text or 'the end'!r} is unexpected")

    def _bracketed(self, opening: str) -> Any:
        parts = [self._statement()]
        while self._take(",", ";"):
            parts.append(self._statement())
        self._need(_OPEN[opening])
        if len(parts) == 1 and opening == "(":
            return parts[0]
        if opening == "[" and all(isinstance(part, sympy.Tuple) for part in parts):
            return sympy.Matrix([list(part) for part in parts])
        return sympy.Tuple(*parts)

    def _named(self, name: str) -> Any:
        if name in ("ln", "log", "lg") or name.startswith("log_"):
            return self._logarithm(name)
        if name in FUNCTIONS and (name not in ("C",) or self._now.text == "("):
            return self._applied(name)
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        letters, _, index = name.partition("_")
        if letters in _GREEK or len(letters) == 1:
            return Symbol(name)
        if not index and set(letters) <= set("abcxyz") and len(letters) == 2 and letters != "by":
            return Symbol(letters[0]) * Symbol(letters[1])
        raise NotMaths(f"{name!r} is not a known name")

    def _applied(self, name: str) -> Any:
        exponent = self._factor_after_caret()
        if name in TWO:
            self._need("(")
            value = self._bracketed("(")
            if not isinstance(value, sympy.Tuple):
                raise NotMaths(f"{name} needs more than one argument")
            return FUNCTIONS[name](*value)
        argument = self._argument()
        made = apply(name, argument)
        if exponent is None:
            return made
        if exponent == -1:
            raise NotMaths("sin^-1 could be the inverse or the reciprocal")
        return power(made, exponent)

    def _factor_after_caret(self) -> Any:
        return self._factor() if self._take("^") else None

    def _argument(self) -> Any:
        if self._take("("):
            return self._bracketed("(")
        value = self._factor()
        # sin 2x is the sine of 2x: names and powers that follow a bare argument belong to it.
        while self._now.kind == "name" and len(self._now.text) == 1:
            value *= self._factor()
        return value

    def _logarithm(self, name: str) -> Any:
        base: Any = {"ln": None, "log": self._log_base, "lg": 10}.get(name)
        if name.startswith("log_"):
            base = number(name[4:]) if name[4:].isdigit() else Symbol(name[4:])
        elif self._take("_"):
            base = self._factor()
        exponent = self._factor_after_caret()
        argument = self._argument()
        made = sympy.log(argument) if base is None else sympy.log(argument, base)
        return made if exponent is None else power(made, exponent)
