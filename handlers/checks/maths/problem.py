"""Recognises a problem that can be checked: the whole question must be one of the known forms.

Word problems are not recognised. A question with any text outside its form is not recognised either, because
that text could change its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sympy

from handlers.checks.maths import calculus, equations, named
from handlers.checks.maths.compare import same, same_rounded
from handlers.checks.maths.notation import NotMaths, plain
from handlers.checks.maths.parser import parse
from handlers.checks.maths.values import Holds, MathsAnswer, asks_for_rounding, value_of

MAX_PROMPT_CHARS = 2_000
Judge = Callable[[MathsAnswer], Holds]

_INSTRUCTION = re.compile(
    r"^(?:show|explain|give|round|justify|think|write|answer|use|express|simplify your|assume|let'?s|step|"
    r"please (?:show|explain|give)|do not|be |put|leave|state|include|provide|your answer)\b",
    re.IGNORECASE,
)
_ASK = re.compile(
    r"^(?:please|can you|could you|now|hey|question:|problem:|q:)?[ ,:]*+"
    r"(?:what(?:'s| is| are)|compute|calculate|evaluate|find|determine|work out|how much is|get|simplify) "
    r"(?:me )?(?:(?:the )?(?:value|result|answer) (?:of|to) |"
    r"the (?:following )?(?:expression|product|sum|quotient|difference)(?: of)? ?:? ?(?=[-\d(\\$])|"
    r"the following ?:? ?)?[: ]*+",
    re.IGNORECASE,
)
_TRANSFORM = re.compile(
    r"^(?:please\s+)?(simplify|expand|factor(?:i[sz]e)?)\s+(?:the expression\s+)?[:\s]*", re.I
)
_PRIMES = re.compile(r"(?:.* )?prime factori[sz]ation of (?P<n>\d{1,15})", re.IGNORECASE)
_ROUND_TAIL = re.compile(
    r"[,(]? ?(?:rounded |correct |accurate )?(?:up )?to (?:the nearest|\d+|two|three|four) ",
    re.I,
)


def recognise(prompt: str) -> Judge | None:
    """The judge of answers to `prompt`; None unless its whole text is one checkable problem."""
    if len(prompt) > MAX_PROMPT_CHARS:
        return None
    question = _question(prompt)
    for form in _FORMS:
        try:
            judge = form(question)
        except NotMaths:
            continue
        if callable(judge):
            return judge  # type: ignore[no-any-return]
        if judge is not None:
            return lambda answer: _against_truth(answer, judge, rounded=asks_for_rounding(prompt))
    return None


def _against_truth(answer: MathsAnswer, readings: tuple[Any, ...], *, rounded: bool) -> Holds:
    verdicts = {
        same_rounded(value_of(answer.value, truth), answer.text, truth, rounded=rounded) for truth in readings
    }
    if len(verdicts) > 1 or None in verdicts:
        return None, "the answer could not be compared with the computed value"
    return (
        (True, "equal to the computed value") if True in verdicts else (False, f"the value is {readings[0]}")
    )


def _question(prompt: str) -> str:
    text = re.sub(r"\\[\[\]()]|\$+|\\left|\\right|\\,|\\;|\\displaystyle|`|\*\*(?=[A-Z])", " ", prompt)
    parts = [part.strip() for part in re.split(r"(?<=[.?!:])\s+(?=[A-Z])|\n+", text) if part.strip()]
    kept = [part for part in parts if not _INSTRUCTION.match(part)] or parts
    whole = re.sub(r"\s+", " ", " ".join(kept)).strip(" .?:")
    return _ROUND_TAIL.split(whole, maxsplit=1)[0].strip(" .?:=")


def _transformed(question: str) -> Judge | None:
    found = _TRANSFORM.match(question)
    if found is None:
        return None
    given = parse(question[found.end() :])
    if not given.free_symbols or isinstance(given, (sympy.Rel, sympy.Tuple)):
        return None
    how = found[1].lower()

    def judge(answer: MathsAnswer) -> Holds:
        value = value_of(answer.value)
        equal = same(value, given)
        if not equal:
            return equal, "equal to the given expression" if equal else "not equal to the given expression"
        if how == "expand":
            done = bool(sympy.expand(value) == value)
        else:
            # Reading expands a factored text unless its factors are kept apart: their number shows it.
            done = how == "simplify" or (
                isinstance(value, (sympy.Mul, sympy.Pow)) and len(sympy.factor_list(value)[1]) >= 1
            )
        return done or None, f"equal to the given expression; {how}{' done' if done else ' cannot be judged'}"

    return judge


def _primes(question: str) -> Judge | None:
    found = _PRIMES.fullmatch(question)
    if found is None:
        return None
    number = sympy.Integer(found["n"])

    def judge(answer: MathsAnswer) -> Holds:
        if value_of(answer.value) != number:
            return False, f"the product is not {number}"
        right = plain(answer.text).rpartition("=")[2]
        bases = re.findall(r"(?<!\^)(?<!\^\()(?<!\*\*)\b\d+", right)
        primes = all(sympy.isprime(int(base)) for base in bases)
        return primes, f"the product of {'primes' if primes else 'factors, not all of them prime'}"

    return judge


def _value(question: str) -> tuple[Any, ...] | None:
    found = _ASK.match(question)
    text = question[found.end() :] if found else question
    text = re.sub(r" (?:equal|equals)(?: to)?$", "", text)
    bases = (None, 10) if re.search(r"log(?![_a-z])", text) else (None,)
    readings = tuple(parse(text, base) for base in bases)
    if any(isinstance(value, (sympy.Rel, sympy.Tuple, sympy.And)) for value in readings):
        return None
    if all(isinstance(value, sympy.Symbol) for value in readings):
        return None
    return readings


_FORMS: tuple[Callable[[str], Any], ...] = (
    calculus.recognise,
    equations.recognise,
    named.recognise,
    _transformed,
    _primes,
    _value,
)
