"""Generated code is extracted from the answer, its language is detected, and faults are found by line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.checks.code.blocks import blocks
from handlers.checks.code.languages import of_content, of_file, of_mention
from handlers.checks.code.syntax import syntax_error
from handlers.engines.code_generation import ADVICE, TEMPLATES, CodeGeneration
from handlers.wire import GenerateRequest, RequestError
from tests.engines.code_samples import SAMPLES, Sample


def asked(prompt: str = "Add two numbers.", **options: Any) -> GenerateRequest:
    return GenerateRequest(id="r", engine="code_generation", prompt=prompt, options=options)


def found(text: str, prompt: str = "Add two numbers.", **options: Any) -> dict[str, Any]:
    return CodeGeneration().check(asked(prompt, **options), text)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.language)
def test_good_code_passes_and_a_fault_is_found(sample: Sample) -> None:
    answer = f"Here it is:\n\n```{sample.tag}\n{sample.code}```\n\nDone."
    (block,) = found(answer)["blocks"]
    verdict = None if sample.broken is None else True
    assert block == {"language": sample.language, "code": sample.code, "syntax_ok": verdict, "error": None}
    if sample.broken is not None:
        (block,) = found(f"```{sample.tag}\n{sample.broken}```")["blocks"]
        assert block["syntax_ok"] is False
        assert block["error"].startswith("line ")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.language)
def test_a_language_is_told_by_its_code_alone(sample: Sample) -> None:
    assert of_content(sample.code) == sample.language
    assert found(f"```\n{sample.code}```")["language"] == sample.language


@pytest.mark.parametrize("text", ["", "Hello.", "First do this, then that. It is a function of time."])
def test_prose_is_in_no_language(text: str) -> None:
    assert of_content(text) is None
    assert found(text) == {"language": None, "blocks": []}


@pytest.mark.parametrize(
    ("prompt", "language"),
    [
        ("Write a Python function.", "python"),
        ("Sort a list in C++.", "cpp"),
        ("a C# class, please", "csharp"),
        ("write a go program", "go"),
        ("Please go on and swift be thy hand", None),
        ("Fix this:\n```rs\nfn f() {}\n```", "rust"),
        ("Add two numbers.", None),
    ],
)
def test_a_language_is_told_by_the_words_of_the_request(prompt: str, language: str | None) -> None:
    assert of_mention(prompt) == language


def test_a_language_is_told_by_a_file_name() -> None:
    assert [of_file(name) for name in ("a/b.py", "x.TSX", "C:\\m.kt", "Makefile")] == [
        "python",
        "typescript",
        "kotlin",
        None,
    ]


def test_every_block_is_found_in_order_with_its_own_language() -> None:
    text = (
        "1. One:\n   ~~~~python\n   x = 1\n   ```\n   ~~~~\n2. Two:\n```js title=a.js\nlet y = 2;\n```\n"
        "```text\n)(\n```\n"
    )
    assert [(b.tag, b.code) for b in blocks(text)] == [
        ("python", "x = 1\n```\n"),
        ("js", "let y = 2;\n"),
        ("text", ")(\n"),
    ]
    assert found(text)["blocks"][2] == {"language": None, "code": ")(\n", "syntax_ok": None, "error": None}


def test_code_that_was_cut_off_says_so() -> None:
    (block,) = found("```python\ndef f(:")["blocks"]
    assert (block["syntax_ok"], block["code"]) == (False, "def f(:\n")
    assert "ends inside this block" in block["error"]


def test_bare_code_is_one_block() -> None:
    answer = found("def f(x):\n    return x\n")
    assert (answer["language"], answer["blocks"][0]["syntax_ok"]) == ("python", True)


def test_the_option_names_the_language_where_the_fence_does_not() -> None:
    (block,) = found("```\nx\n```", language="C++")["blocks"]
    assert block["language"] == "cpp"
    assert found("", language="golang")["language"] == "go"


@pytest.mark.parametrize("code", ["(" * 100_000, "\0", "x = " + "-" * 50_000 + "1", "\udcff"])
@pytest.mark.parametrize("language", ["python", "c", "javascript", "json"])
def test_hostile_code_gets_a_verdict(code: str, language: str) -> None:
    assert syntax_error(language, code)[0] in (True, False)


@given(st.text(max_size=200))
def test_any_answer_has_findings(text: str) -> None:
    answer = found(f"```\n{text}")
    assert set(answer) == {"language", "blocks"}
    assert CodeGeneration().unchecked(asked(), text, "stopped").keys() == answer.keys()


def test_template_and_language_are_in_the_instructions() -> None:
    engine = CodeGeneration()
    for template, wanted in TEMPLATES.items():
        assert wanted in engine.get_system_prompt(asked(template=template))
    assert ADVICE["rust"] in engine.get_system_prompt(asked(language="rs"))
    assert ADVICE["go"] in engine.get_system_prompt(asked("Write a Go program."))


@pytest.mark.parametrize(
    ("option", "value"), [("language", "klingon"), ("template", "poem"), ("language", 3)]
)
def test_a_wrong_option_is_refused_with_its_choices(option: str, value: Any) -> None:
    with pytest.raises(RequestError) as refused:
        CodeGeneration().accept(asked(**{option: value}))
    assert refused.value.param == f"options.{option}"
    assert "'python'" in refused.value.message or "'function'" in refused.value.message
