"""Test texts for each finding that is a verdict: one that it rejects, and one that it accepts.

A new finding that judges a text needs a row here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.engines.engine_cases import BIBTEX, CONTRACT, SCHEMA

WEATHER = "The weather is very nice today."
WETTER = "Das Wetter ist heute sehr schön."
LIGHTHOUSE = "The old lighthouse stands on the northern cliff and its keeper has gone home for winter."
PASSAGES = {"passages": ["The bridge was opened in 1932.", "It is made of grey steel."]}
BOATS = "In 1999 the company sold 1,200 boats and then moved to Oslo."
GERMAN = {"source": "en", "target": "de"}
NO_JSON = "the answer is not valid JSON, or was cut off"
REVIEW = {"task": "review", "document": CONTRACT}


@dataclass(frozen=True, slots=True)
class No:
    """A case: `finding` (a path) is `value` for the text `bad`, and something else for `good`."""

    engine: str
    finding: str
    bad: str
    value: Any
    good: str
    options: dict[str, Any] = field(default_factory=dict)
    prompt: str = "Why?"


def maths(finding: str, bad: str, value: Any, good: str, **options: str) -> No:
    return No("mathematical_reasoning", finding, bad, value, good, options, "What is 6 * 7?")


def code(finding: str, bad: str, value: Any, good: str) -> No:
    return No("code_generation", finding, bad, value, good)


def translation(source: str, bad: str, *warnings: str, good: str, **options: Any) -> No:
    return No("translation", "warnings", bad, list(warnings), good, options or GERMAN, source)


def legal(finding: str, bad: str, value: Any, good: str) -> No:
    return No("legal_analysis", finding, bad, value, good, REVIEW)


def answer(finding: str, bad: str, value: Any, good: str) -> No:
    return No("question_answering", finding, bad, value, good, PASSAGES)


def research(finding: str, bad: str, value: Any, good: str) -> No:
    return No("scientific_research", finding, bad, value, good, {"bibliography": BIBTEX})


def summary(text: str, bad: str, warning: str, good: str, **options: str) -> No:
    return No("summarization", "warnings", bad, [warning], good, options, text)


def creative(bad: str, warning: str, good: str, **options: Any) -> No:
    return No("creative_writing", "warnings", bad, [warning], good, options)


def labels(finding: str, bad: str, value: Any, good: str, **options: bool) -> No:
    return No("text_classification", finding, bad, value, good, {"labels": ["cat", "dog"], **options})


def extraction(finding: str, bad: str, value: Any, good: str = '{"name": "Ada"}') -> No:
    return No("information_extraction", finding, bad, value, good, {"schema": SCHEMA})


CASES = [
    maths("verified", "Final answer: 41", "false", "Final answer: 42"),
    maths("verified", "Final answer: 31", "false", "Final answer: 30", expected="30"),
    maths("verified", "I do not know.", "unknown", "Final answer: 42"),
    maths("reason", "No idea.", "no final answer that can be read as mathematics", "Final answer: 42"),
    maths("answer", "", None, "Final answer: 42"),
    maths("latex", "No idea.", None, "Final answer: 42"),
    code("blocks.0.syntax_ok", "```python\ndef f(:\n```", False, "```python\nx = 1\n```"),
    code("blocks.0.syntax_ok", "```js\nlet = ;\n```", False, "```js\nlet x = 1;\n```"),
    code("blocks.0.syntax_ok", "```text\n)(\n```", None, "```python\nx = 1\n```"),
    code("language", "Hello.", None, "```python\nx = 1\n```"),
    No("code_completion", "language", "", None, " = 1\ndef f(x):\n    return x\n", {"prefix": "x"}, "-"),
    translation(
        WEATHER,
        "Le temps est très beau aujourd'hui.",
        "language: the translation is not in German",
        good=WETTER,
    ),
    translation(WEATHER, "Gut.", "length: the translation is 0.13 times as long as the source", good=WETTER),
    translation(
        "One line.\nTwo.", "Eine Zeile.", "lines: the source has 2, the translation 1", good="Eine.\nZwei."
    ),
    translation("One line.", "  ", "empty: there is no translation", good="Eine Zeile."),
    translation(
        LIGHTHOUSE,
        "Der alte Leuchtturm steht auf der Klippe im Norden and its keeper has gone home im Winter.",
        "untranslated: 'and its keeper has gone home'",
        good="Der alte Leuchtturm steht auf der Klippe im Norden, und sein Wärter ist im Winter daheim.",
    ),
    translation(
        "-",
        '["Eins."]',
        "count: 2 texts, 1 translations",
        good='["Eins.", "Zwei."]',
        target="de",
        inputs=["One.", "Two."],
    ),
    translation(
        "-",
        "Eins.",
        "form: the answer is not a JSON list of texts",
        good='["Eins."]',
        target="de",
        inputs=["One."],
    ),
    translation(
        "-",
        '["Eins.", ""]',
        "input 1: empty: there is no translation",
        good='["Eins.", "Zwei."]',
        target="de",
        inputs=["One.", "Two."],
    ),
    legal("items", '{"items": [{"clause": "Te', None, '{"items": []}'),
    legal("items", '{"items": ["rent"]}', None, '{"items": []}'),
    legal("items", '{"findings": []}', None, '{"items": []}'),
    legal("warnings", "No JSON.", [NO_JSON], '{"items": []}'),
    legal(
        "quotes.0.found", '[{"quote": "pays rent on Sundays"}]', False, '[{"quote": "pays rent on Mondays"}]'
    ),
    legal(
        "quotes.0.start", '[{"quote": "pays rent on Sundays"}]', None, '[{"quote": "pays rent on Mondays"}]'
    ),
    legal(
        "warnings",
        '[{"quote": "60 days\' notice"}]',
        ['quote not in the document: "60 days\' notice"'],
        '[{"quote": "30 days\' notice"}]',
    ),
    answer("quotes.0.found", 'It "was opened in 1933".', False, 'It "was opened in 1932".'),
    answer("quotes.0.passage", 'It "was opened in 1933".', None, 'It "was opened in 1932".'),
    answer(
        "warnings",
        'It "is of blue steel".',
        ["quote not in any passage: 'is of blue steel'"],
        '"made of grey steel"',
    ),
    answer("warnings", "1932.", ["the answer does not quote any passage"], 'It "was opened in 1932".'),
    research("citations.0.supported", "Guessed [@roe99].", False, "Known [@kn68]."),
    research("warnings", "Guessed [@roe99].", ["citation of an unknown source: roe99"], "Known [@kn68]."),
    research("invalid_dois", "See doi:10.1/x.", ["10.1/x"], "See doi:10.1000/182."),
    research(
        "warnings", "See doi:10.5555/x.", ["DOI of an unknown source: 10.5555/x"], "See doi:10.1000/182."
    ),
    summary(BOATS, "It sold 1,300 boats.", "number not in the text: 1300", "It sold 1200 boats."),
    summary(BOATS, BOATS, "length: the summary is not shorter than the text", "It sold boats."),
    *(
        summary(
            "word " * 900,
            "word " * (most + 1),
            f"length: {most + 1} words is too long for a {length} summary",
            "word " * most,
            length=length,
        )
        for length, most in {"short": 120, "medium": 250, "long": 800}.items()
    ),
    creative("word " * 99, "length: 99 words; about 200 were requested", "word " * 100, length="short"),
    creative("word " * 1001, "length: 1001 words; about 500 were requested", "word " * 1000, length="medium"),
    creative("Short.", "length: 1 words; about 1200 were requested", "word " * 1200, length="long"),
    creative("word " * 21, "length: 21 words; about 10 were requested", "word " * 20, length=10),
    *(
        creative(
            "a\n" * (lines - 1),
            f"form: a {form} has {lines} lines, this has {lines - 1}",
            "a\n" * lines,
            form=form,
        )
        for form, lines in {"haiku": 3, "limerick": 5, "sonnet": 14}.items()
    ),
    creative(
        "Once upon a time",
        "continuation: the answer repeats the given text",
        " a time.",
        continue_from="Once upon",
    ),
    labels("label", "fish", None, "cat"),
    labels("warnings", "fish", ["not one of the labels: fish"], "cat"),
    labels("label", '["cat", "fish"]', None, '["cat"]', multiple=True),
    labels(
        "warnings",
        '["fish", "cat", 3]',
        ["not one of the labels: fish", "not one of the labels: 3"],
        "[]",
        multiple=True,
    ),
    labels("warnings", "cat", ["the answer is not a JSON list"], '["cat"]', multiple=True),
    extraction("data", '{"name": "A', None),
    extraction("data", '{"name": 1}', None),
    extraction("data", "{}", None),
    extraction("warnings", '{"name": "A', ["the answer is not valid JSON, or was cut off"]),
    extraction("warnings", '{"name": 1}', ["does not match the schema: 1 is not of type 'string' at $.name"]),
    No(
        "data_analysis",
        "unsupported_numbers",
        "The mean is 20, the growth 7 %.",
        ["7 %"],
        "The mean is 20.",
        {"csv": "city,sales\nRome,10\nOslo,30\n", "chart": "none"},
    ),
]
