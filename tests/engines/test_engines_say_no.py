"""Every check of every engine rejects a bad text and accepts a good one."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest

from handlers.engines.data_analysis import NO_TABLE
from handlers.engines.registry import engine_class, engine_names
from handlers.wire import GenerateRequest
from tests.engines.engine_cases import BIBTEX
from tests.engines.no_cases import CASES, No

OF_A_RUN = {"conversational_chat", "general_reasoning", "embedding"}
"""Engines whose findings are only about the run, and not about the text."""


def found(engine: str, text: str, options: dict[str, Any], prompt: str = "Why?") -> dict[str, Any]:
    request = GenerateRequest(id="r", engine=engine, prompt=prompt, options=options)
    return engine_class(engine)().check(request, text)


def at(findings: Any, path: str) -> Any:
    return reduce(lambda value, name: value[int(name) if name.isdigit() else name], path.split("."), findings)


def test_every_engine_that_judges_a_text_says_no_somewhere() -> None:
    tested = {case.engine for case in CASES}
    assert tested == set(engine_names()) - OF_A_RUN, "an engine has a case in no_cases.py, or is in OF_A_RUN"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.engine}-{case.finding}")
def test_a_check_says_no_to_a_bad_text_and_not_to_a_good_one(case: No) -> None:
    assert at(found(case.engine, case.bad, case.options, case.prompt), case.finding) == case.value
    assert at(found(case.engine, case.good, case.options, case.prompt), case.finding) != case.value
    if case.finding == "warnings":
        assert found(case.engine, case.good, case.options, case.prompt)["warnings"] == []


@pytest.mark.parametrize("engine", sorted(OF_A_RUN))
def test_what_only_a_run_can_tell_is_claimed_of_no_text(engine: str) -> None:
    assert found(engine, "It is so.", {}) == engine_class(engine).run_findings


def test_a_translation_into_no_language_is_called_unchecked() -> None:
    said = "target: no target language was given, so nothing could be checked"
    assert found("translation", "Pourquoi ?", {})["warnings"] == [said]


def test_a_doi_of_the_bibliography_that_is_none_is_told() -> None:
    wrong = {"bibliography": BIBTEX.replace("10.1000/182", "10.1/x")}
    assert found("scientific_research", "Known [@kn68].", wrong)["invalid_dois"] == ["10.1/x"]


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({}, NO_TABLE),
        (
            {"csv": "a\nx\ny", "chart": "scatter"},
            "there are no columns for a chart (scatter): points need two columns of numbers",
        ),
        ({"csv": "a\n" + "1\n" * 19 + "x"}, "a: 1 of 20 cells are not numbers; the column is read as text"),
        ({"csv": "a,b\n1,2\n3"}, "1 rows were too short; their last cells are empty"),
        ({"csv": "a,a\n1,2"}, "several columns have the same name; the later ones are numbered"),
        ({"csv": "a\n1e999\n2"}, "a: numbers too large to compute with are left out"),
        (
            {"csv": "a\n" + "\n".join(f"x{n}" for n in range(99)), "chart": "bar"},
            "the chart shows 30 of 99 values",
        ),
        ({"csv": "a\n日\n本", "chart": "bar"}, "the chart's font lacks some letters"),
        (
            {"csv": "a,b\n" + "\n".join(f"{n},{n}" for n in range(6000)), "chart": "scatter"},
            "the chart shows 5000 of 6000 points",
        ),
    ],
)
def test_what_is_wrong_with_a_table_or_its_chart_is_told(options: dict[str, Any], warning: str) -> None:
    answered = found("data_analysis", "", {"chart": "none", **options} if options else {})
    assert answered["warnings"] == [warning]


UNCHECKED: dict[str, tuple[str, dict[str, Any]]] = {
    "code_generation": ("```python\nx = 1\n```", {"blocks.0.syntax_ok": None, "blocks.0.error": "stopped"}),
    "data_analysis": ("It is 5.", {"statistics": None, "unsupported_numbers": None, "warnings": ["stopped"]}),
    "information_extraction": ('{"name": "Ada"}', {"data": None, "warnings": ["stopped"]}),
    "mathematical_reasoning": ("Final answer: 42", {"verified": "unknown", "reason": "stopped"}),
    "scientific_research": ("Known [@kn68].", {"warnings": ["stopped"]}),
    "code_completion": ("x = 1", {"language": None, "warnings": ["stopped"]}),
    "creative_writing": ("Once.", {"words": None, "warnings": ["stopped"]}),
    "legal_analysis": ('"the tenant pays rent"', {"items": None, "quotes": [], "warnings": ["stopped"]}),
    "question_answering": ('"it is four"', {"quotes": [], "warnings": ["stopped"]}),
    "summarization": ("It is 5.", {"words": None, "warnings": ["stopped"]}),
    "text_classification": ("good", {"label": None, "scores": None, "warnings": ["stopped"]}),
    "translation": ("Oui.", {"detected": None, "translations": [], "warnings": ["stopped"]}),
}
"""A text for each engine that reads texts, and the findings about it without a check."""


def test_every_engine_that_reads_texts_has_such_a_text() -> None:
    readers = {name for name in engine_names() if engine_class(name).reads_text}
    assert set(UNCHECKED) == readers, "an engine has a text and its findings in UNCHECKED"


@pytest.mark.parametrize("engine", UNCHECKED)
def test_a_check_that_was_not_done_says_so_and_claims_nothing(engine: str) -> None:
    text, said = UNCHECKED[engine]
    request = GenerateRequest(id="r", engine=engine, prompt="What is 6 * 7?")
    answered = engine_class(engine)().unchecked(request, text, "stopped")
    assert {path: at(answered, path) for path in said} == said
