"""Mathematical answers are parsed without evaluation, judged without guessing, and corrected once."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.checks.maths.answers import candidates
from handlers.checks.maths.notation import NotMaths
from handlers.checks.maths.parser import parse
from handlers.checks.maths.verdict import judge
from handlers.engines.mathematical_reasoning import ADVICE, MathematicalReasoning
from handlers.wire import GenerateRequest, RequestError
from tests.test_engines import ScriptedModel

CASES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "cases/maths.jsonl").read_text(encoding="utf-8").splitlines()
]


def asked(prompt: str, **options: Any) -> GenerateRequest:
    return GenerateRequest(id="r", engine="mathematical_reasoning", prompt=prompt, options=options)


async def answered(request: GenerateRequest, *texts: str) -> tuple[str, MathematicalReasoning, ScriptedModel]:
    model, engine = ScriptedModel(*texts), MathematicalReasoning()
    engine.load_model(model)
    return await engine.generate(request), engine, model


def test_no_wrong_answer_is_true_and_no_right_one_is_false() -> None:
    verdicts = [(judge(c["problem"], c["text"], c.get("expected")).holds, c) for c in CASES]
    assert not [case for holds, case in verdicts if holds is not None and holds is not case["right"]]
    assert sum(holds is None for holds, _ in verdicts) <= len(CASES) / 10


def test_the_cases_are_many_cover_every_context_and_are_half_wrong() -> None:
    assert len(CASES) >= 200
    assert {case["context"] for case in CASES} == set(ADVICE)
    assert sum(case["right"] for case in CASES) == len(CASES) / 2


@pytest.mark.parametrize(
    ("prompt", "text", "holds"),
    [
        ("Solve 2x = 10", "2(5) = 10, so x = 5.", True),
        ("Solve x^2 + 1 = 0", "There are no real solutions.", True),
        ("Solve x^2 - 1 = 0", "There are no real solutions.", False),
        ("Solve x^2 - 2 = 0", "x = 1.414 or x = -1.414", True),
        ("Solve x^2 = 4", "x = 2", False),
        ("Solve x^2 = 4", "x_1 = 2, x_2 = -2", True),
        ("Solve x^2 = 4", "x_1 = 2, x_2 = 3", False),
        ("Solve 2x + 3 = 11.", "x = 4\n\nCheck: 2(4) + 3 = 11", True),
        ("Solve 2x + 3 = 11.", "So x = 4 is the solution.", True),
        ("Solve x^2 < 4", "-2 < x < 2", True),
        ("Solve x^2 < 4", "x < 2", False),
        ("Solve sin(x) = 0", "x = n\\pi", None),
        ("What is 1/3?", "0.333", True),
        ("What is 1/3?", "0.3", None),
        ("What is 1/3?", "0.35", False),
        ("What is log(100)?", "2", None),
        ("What is log(100)?", "3", False),
        ("Find the limit of 1/x as x approaches 0.", "It does not exist.", True),
        ("Find the limit of 1/x as x approaches 0.", "0", False),
        ("Find the prime factorization of 60.", "4 * 3 * 5", False),
        ("Factor x^2 - 5x + 6.", "x^2 - 5x + 6", None),
        ("What is 12 * 13?", "12 * 13", None),
        ("What is gcd(17, 5)?", "gcd(17, 5)", None),
        ("Simplify (x^2 - 1)/(x - 1).", "(x^2 - 1)/(x - 1)", None),
        ("A train leaves at nine. When does it arrive?", "12", None),
    ],
)
def test_a_problem_is_its_own_witness(prompt: str, text: str, holds: bool | None) -> None:
    assert judge(prompt, text, None).holds is holds


@pytest.mark.parametrize(
    ("text", "expected", "holds"),
    [
        ("3.50", "3.5", True),
        ("3.501", "3.50", None),
        ("\\pi", "3.14159", True),
        ("50 cents", "0.50", None),
        ("31 apples", "30", False),
        ("72°", "72", True),
        ("73", "72°", False),
        ("90°", "pi/2", True),
        ("5%", "5", None),
        ("So the area is 30 square units.", "30", True),
        ("(1, 2)", "(2, 1)", False),
        ("{1, 2}", "{2, 1}", True),
        ("x >= 3", "x > 3", False),
        ("3 < x", "x > 3", True),
        ("y = 5", "x = 5", None),
        ("No", "yes", False),
        ("1/2x", "x/2", None),
    ],
)
def test_an_expected_answer_is_compared_by_its_meaning(text: str, expected: str, holds: bool | None) -> None:
    assert judge("", text, expected).holds is holds


@pytest.mark.parametrize(
    "text",
    [
        "__import__('pathlib').Path('{path}').touch()",
        "\\text{{__import__('os').mknod('{path}')}}",
        "\\boxed{{exec(open('{path}', 'w').write('x'))}}",
        "Final answer: (lambda: open('{path}', 'w'))()",
    ],
)
def test_text_is_never_run(text: str, tmp_path: Path) -> None:
    hostile = text.format(path=tmp_path / "ran")
    assert judge(f"What is {hostile}?", hostile, hostile).holds in (True, None)
    assert judge("What is 2 + 2?", hostile, None).holds is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text", ["9^9^9^9", "10000000!", "1e999999", "(" * 5000, "x" * 3000, "1/0", "2 3", ""]
)
def test_what_would_fill_the_memory_or_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(NotMaths):
        parse(text)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="0123456789.,+-*/^=<>()[]{}|!% xyzabcnpie\\$_\n", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(NotMaths):
        parse(text)
    assert judge("What is 7 * 8?", f"Final answer: {text}", None).holds in (True, False, None)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("We get \\boxed{\\frac{1}{2}} in the end.", "\\frac{1}{2}"),
        ("The answer is 5. No, wait.\nFinal answer: 7", "7"),
        ("Working...\n#### 1,200", "1,200"),
        ("**Answer:** $x = 3$.", "x = 3"),
        ("", None),
    ],
)
def test_the_final_answer_is_found_by_its_marks(text: str, answer: str | None) -> None:
    assert next(iter(candidates(text)), None) == answer


async def test_a_wrong_answer_is_tried_once_more_without_telling_the_right_one() -> None:
    text, engine, model = await answered(asked("What is 6 * 7?"), "Final answer: 41", "Final answer: 43")
    assert text == "Finalanswer:43"
    assert engine.notes == {"attempts": 2}
    (_, _), (again, _) = model.asked
    assert [turn.role for turn in again] == ["system", "user", "assistant", "user"]
    assert "41" in again[-1].content
    assert "42" not in again[-1].content


@pytest.mark.parametrize("text", ["Final answer: 42", "I do not know."])
async def test_a_right_or_unreadable_answer_is_not_tried_again(text: str) -> None:
    _, engine, model = await answered(asked("What is 6 * 7?"), text)
    assert len(model.asked) == 1
    assert engine.notes == {}


async def test_a_text_that_cannot_be_taken_back_is_tried_once() -> None:
    once = asked("What is 6 * 7?").model_copy(update={"attempts": 1})
    _, engine, model = await answered(once, "Final answer: 41", "Final answer: 43")
    assert len(model.asked) == 1
    assert engine.notes == {}


async def test_context_and_format_are_in_the_instructions() -> None:
    request = asked("What is 6 * 7?", context="number_theory", format="latex")
    _, _, model = await answered(request, "42")
    system = model.asked[0][0][0].content
    assert ADVICE["number_theory"] in system
    assert "\\boxed{}" in system


def test_latex_is_normalised() -> None:
    for text in ("x = {-1 \\over 2}", "\\boxed{x=-\\dfrac{1}{2}}", "x = -0.5"):
        verdict = judge("Solve 2x + 1 = 0", text, None)
        assert verdict.holds in (True, None)
        assert verdict.latex in ("x = - \\frac{1}{2}", None)


@pytest.mark.parametrize(("option", "value"), [("context", "poetry"), ("format", "html"), ("expected", 42)])
def test_a_wrong_option_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(RequestError) as refused:
        MathematicalReasoning().accept(asked("?", **{option: value}))
    assert refused.value.param == f"options.{option}"
