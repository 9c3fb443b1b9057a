"""The verdict on a model's answer: against the expected one, or against the problem itself.

The verdict is `unknown` for everything that is not understood exactly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import sympy

from handlers.checks.maths.answers import candidates, clean
from handlers.checks.maths.compare import same, same_rounded
from handlers.checks.maths.intervals import interval
from handlers.checks.maths.notation import NotMaths
from handlers.checks.maths.parser import parse
from handlers.checks.maths.problem import recognise
from handlers.checks.maths.values import MathsAnswer, asks_for_rounding, assignments, value_of

_BEYOND_SYMPY = (
    AttributeError, TypeError, ValueError, ArithmeticError, NotImplementedError, RecursionError,
    IndexError, KeyError,
)  # fmt: skip
_NOTHING = re.compile(
    r"(?:there (?:is|are) )?no (?:real )?(?:solution|root)s?\b|does not exist|DNE\b|undefined", re.IGNORECASE
)
_YES_OR_NO = {"yes", "no", "true", "false"}
_SCALES = re.compile(
    r"\W*(?:cents?|percent|[cmk]m|[mk]?g|ml|m?s|min\w*|hours?|days?|seconds?|grams?|inches)\b"
)
_DEGREES = re.compile(r"(-?[\d.,/]++)\s*+(?:°|\^\s*+(?:\{\s*+)?\\circ\s*+\}?|degrees)")
VERDICTS = {True: "true", False: "false", None: "unknown"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The final answer as written, its value in LaTeX, and the verdict on it."""

    answer: str | None
    latex: str | None
    holds: bool | None
    reason: str


def judge(prompt: str, text: str, expected: str | None) -> Verdict:
    """Finds the final answer of `text` and checks if it equals `expected`, or else solves `prompt`."""
    answers = list(_readable(candidates(text)))
    if not answers:
        found = candidates(text)
        shown = found[0] if found else None
        if expected is not None and shown is not None:
            given, wanted = _bare(shown).casefold(), _bare(clean(expected)).casefold()
            if given == wanted:
                return Verdict(shown, None, True, "equal to the expected answer")
            if {given, wanted} <= _YES_OR_NO:
                return Verdict(shown, None, False, f"expected {wanted}")
        return Verdict(shown, None, None, "no final answer that can be read as mathematics")
    answer = answers[0]
    try:
        holds, reason = _against(prompt, answer, expected)
        if holds is False and _may_be_in_another_unit(text, answer):
            holds, reason = None, "the answer is in a unit that may differ from the expected one"
        latex = str(sympy.latex(answer.value))
    except _BEYOND_SYMPY as error:
        return Verdict(answer.text, None, None, f"SymPy could not compare it: {type(error).__name__}")
    return Verdict(answer.text, latex, holds, reason)


def _against(prompt: str, answer: MathsAnswer, expected: str | None) -> tuple[bool | None, str]:
    if expected is None:
        problem = recognise(prompt)
        if problem is None:
            return None, "this kind of problem cannot be checked, and no expected answer was given"
        holds, reason = problem(answer)
        if holds and _restates(prompt, answer.text):
            return None, "the answer only repeats the question"
        return holds, reason
    wanted = clean(expected)
    if _bare(answer.text) == _bare(wanted):
        return True, "equal to the expected answer"
    # Angles in degrees are compared without the degree sign, which one side may omit; pi needs it.
    bare = _without_degrees(answer.text), _without_degrees(wanted)
    if "pi" not in bare[0] + bare[1]:
        answer, wanted = MathsAnswer(bare[0], answer.value), bare[1]
    log_bases = (None, 10) if "log" in answer.text + wanted else (None,)
    verdicts = {_compared(prompt, answer, wanted, base) for base in log_bases}
    one_is_percent = ("%" in answer.text) != ("%" in wanted)
    if len(verdicts) > 1 or None in verdicts or (False in verdicts and one_is_percent):
        return None, "the answer could not be compared with the expected one"
    return (True, "equal to the expected answer") if True in verdicts else (False, f"expected {wanted}")


def _without_degrees(text: str) -> str:
    found = _DEGREES.fullmatch(text)
    return found[1] if found else text


def _compared(prompt: str, answer: MathsAnswer, wanted: str, base: int | None) -> bool | None:
    try:
        number = next((one.text for one in _readable(candidates(wanted))), wanted)
        truth, value = _read(number, base), _read(answer.text, base)
    except NotMaths:
        return None
    if isinstance(truth, sympy.Set) and isinstance(value, sympy.Tuple):
        value = interval(answer.text, sure=False) or value
    if _is_point(wanted) and _is_point(answer.text):
        return len(truth) == len(value) and all(map(same, value, truth))
    ours, theirs = assignments(value), assignments(truth)
    if ours and theirs and ours.keys() != theirs.keys():
        return None
    value, truth = value_of(value, truth), value_of(truth, value)
    verdict = same_rounded(value, answer.text, truth, rounded=asks_for_rounding(prompt))
    if verdict is False and "." in wanted:
        verdict = same_rounded(truth, wanted, value)  # the expected answer may be rounded
        # A longer decimal may be the unrounded truth or wrong in its last digits: it cannot be decided.
        return None if verdict and "." in answer.text else verdict
    return verdict


def _restates(prompt: str, text: str) -> bool:
    # 12 * 13 equals 12 * 13, but it does not answer the question.
    is_one_name = text.isalpha() and (len(text) == 1 or text.casefold() == "infinity")
    has_more = not is_one_name and re.search(r"\A\D*+\d[\d.,%]*+[^\d.,%]|[A-Za-z]", text) is not None
    return has_more and _bare(text) in _bare(prompt)


def _may_be_in_another_unit(text: str, answer: MathsAnswer) -> bool:
    at = text.rfind(answer.text)
    return at >= 0 and _SCALES.match(text, at + len(answer.text)) is not None


def _bare(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _is_point(text: str) -> bool:
    return text.startswith("(") and text.endswith(")") and "," in text


def _read(text: str, log_base: int | None = None) -> Any:
    return interval(text) or parse(text, log_base)


def _readable(found: list[str]) -> Any:
    for text in found:
        if _NOTHING.search(text):
            yield MathsAnswer(text, sympy.S.EmptySet)
            continue
        try:
            value = _read(text)
        except NotMaths:
            continue
        if isinstance(value, sympy.Eq) and not value.lhs.free_symbols:  # 2 + 2 = 4
            yield MathsAnswer(text.rpartition("=")[2].strip(), value.rhs)
        else:
            yield MathsAnswer(text, value)
