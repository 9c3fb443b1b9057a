"""Code completions are filled into the middle, end with their block, and are cached for further typing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.checks.code.endings import BlockReader, overlap
from handlers.engines._completion_cache import CachedCompletion, CompletionCache
from handlers.engines._fill_in_middle import FAMILIES, Family
from handlers.engines.base import ControlToken
from handlers.engines.code_completion import CodeCompletion
from handlers.wire import GenerateRequest, RequestError
from tests.test_engines import ScriptedModel

STAR = FAMILIES[1]


def asked(prompt: str = "-", sampling: dict[str, Any] | None = None, **options: Any) -> GenerateRequest:
    return GenerateRequest.model_validate(
        {
            "id": "r",
            "engine": "code_completion",
            "prompt": prompt,
            "options": options,
            "sampling": sampling or {},
        }
    )


async def completed(model: ScriptedModel, request: GenerateRequest) -> tuple[str, dict[str, Any]]:
    engine = CodeCompletion()
    engine.load_model(model)
    return await engine.generate(request), engine.notes


def read(prefix: str, completion: str, suffix: str = "") -> str:
    reader = BlockReader(prefix, suffix)
    out = "".join(reader.feed(character) for character in completion)
    return out + reader.flush()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.prefix)
async def test_a_model_with_the_tokens_fills_the_middle(family: Family) -> None:
    model = ScriptedModel("a + b")
    model.controls = frozenset(family.tokens)
    text, notes = await completed(model, asked(prefix="x = ", suffix="\nprint(x)\n"))
    assert (text, notes["mode"]) == ("a + b", "fim")
    parts, ends = model.completed[0]
    assert [part.token for part in parts if isinstance(part, ControlToken)] == (
        list(family.tokens) if family.middle else [family.suffix, family.prefix]
    )
    assert {part for part in parts if isinstance(part, str)} == {"x = ", "\nprint(x)\n"}
    assert ends == list(family.ends)


@pytest.mark.parametrize(("controls", "suffix"), [(frozenset(), "\nprint(x)"), (frozenset(STAR.tokens), "")])
async def test_without_tokens_or_suffix_the_prefix_is_continued(
    controls: frozenset[str], suffix: str
) -> None:
    model = ScriptedModel("a + b")
    model.controls = controls
    _, notes = await completed(model, asked(prefix="x = ", suffix=suffix))
    assert notes["mode"] == "continuation"
    assert model.completed == [(["x = "], [])]


async def test_the_prompt_is_the_prefix_and_its_open_fence_is_taken_off() -> None:
    model = ScriptedModel("1", "1")
    await completed(model, asked("Please:\n```python\nx = "))
    await completed(model, asked("y = "))
    assert [parts for parts, _ in model.completed] == [["x = "], ["y = "]]


@pytest.mark.parametrize(
    ("prefix", "completion", "kept"),
    [
        ("def f(a):\n    ", "return a\n\ndef g():\n    pass\n", "return a\n"),
        ("def f(a", "):\n    return a\n\nprint(f(1))\n", "):\n    return a\n"),
        (
            "class A:\n    def f(self):\n        ",
            "x = 1\n        return x\n\n    def g(self):",
            "x = 1\n        return x\n",
        ),
        ("function f() {\n  ", "return 1;\n}\n\nfunction g() {}\n", "return 1;\n}\n"),
        ("func main() {\n\tif ok {\n\t\t", "run()\n\t}\n\tstop()\n}\n", "run()\n\t}\n"),
        ("def f(a)\n  ", "a + 1\nend\n\nputs f(1)\n", "a + 1\nend\n"),
        ("for f in *; do\n  ", 'echo "$f"\ndone\nexit 0\n', 'echo "$f"\ndone\n'),
        ("x = ", "1\ny = 2\n", "1\ny = 2\n"),
        ("", "import os\n", "import os\n"),
    ],
)
def test_a_completion_ends_with_its_block(prefix: str, completion: str, kept: str) -> None:
    assert read(prefix, completion) == kept


@pytest.mark.parametrize(
    ("prefix", "completion", "suffix", "kept"),
    [
        ("x = add(", "1, 2)", ")\n", "1, 2"),
        ("print(", "f(a)", ")", "f(a)"),
        ("function f() {\n  ", "return 1;\n}\n", "\n}\n", "return 1;\n"),
        ("a = 1\n", "b = 2\nc = a + b\nprint(c)\n", "c = a + b\n", "b = 2\n"),
        ("name = 'a", "bc'", "'\n", "bc"),
        ("x = ", "foo", "bar", "foo"),
    ],
)
def test_what_the_suffix_says_is_not_said_twice(prefix: str, completion: str, suffix: str, kept: str) -> None:
    assert read(prefix, completion, suffix) == kept


@given(
    st.text(alphabet="ab(){}\n: ", max_size=40),
    st.text(alphabet="ab(){}\n: ", max_size=60),
    st.text(max_size=10),
)
def test_a_completion_is_a_beginning_of_what_the_model_wrote(prefix: str, text: str, suffix: str) -> None:
    assert text.startswith(read(prefix, text, suffix))
    assert text[len(text) - overlap(text, suffix) :] in suffix


async def test_a_user_who_asks_again_or_types_on_is_answered_without_the_model() -> None:
    model = ScriptedModel("return a + b")
    first, _ = await completed(model, asked(prefix="def add(a, b): "))
    again, notes = await completed(model, asked(prefix="def add(a, b): "))
    assert (again, notes) == (first, {"mode": "continuation", "cached": True})
    typed, notes = await completed(model, asked(prefix="def add(a, b): return"))
    assert (typed, notes["cached"]) == (" a + b", True)
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"prefix": "def add(a, b): raise"},
        {"prefix": "def add(a, b): return a + b"},
        {"prefix": "def add(a, "},
        {"prefix": "def add(a, b): ", "suffix": "\n#"},
        {"prefix": "def add(a, b): ", "sampling": {"seed": 2}},
    ],
)
async def test_any_other_request_is_a_new_one(other: dict[str, Any]) -> None:
    model = ScriptedModel("return a + b", "new")
    await completed(model, asked(prefix="def add(a, b): "))
    text, notes = await completed(model, asked(**other))
    assert (text, notes["cached"]) == ("new", False)


async def test_how_a_kept_completion_ended_is_kept() -> None:
    model = ScriptedModel("long")
    model.finish_reason = "length"
    await completed(model, asked(prefix="x = "))
    model.finish_reason = "stop"
    await completed(model, asked(prefix="x = "))
    assert str(model.finish_reason) == "length"


def test_the_cache_is_bounded_by_number_and_by_characters() -> None:
    few, small = CompletionCache(max_entries=2), CompletionCache(max_chars=20)
    for number in range(5):
        few.keep("", f"{number}:", CachedCompletion("x", "fim", "stop"))
        small.keep("", f"{number}" * 5, CachedCompletion("x" * 5, "fim", "stop"))
    assert [few.find("", f"{n}:") is not None for n in range(5)] == [False, False, False, True, True]
    assert [small.find("", f"{n}" * 5) is not None for n in range(5)] == [False, False, False, True, True]
    small.keep("", "y" * 30, CachedCompletion("z", "fim", "stop"))
    assert small.find("", "y" * 30) is None


@pytest.mark.parametrize(
    ("options", "text", "language"),
    [
        ({"prefix": "x", "language": "golang"}, "", "go"),
        ({"prefix": "x", "filename": "src/a.rs"}, "", "rust"),
        ({"prefix": "def f(x):\n"}, "    return x\n", "python"),
        ({"prefix": "x"}, "", None),
        ({}, "", "kotlin"),
    ],
)
def test_the_language_is_told_by_option_file_fence_or_content(
    options: dict[str, Any], text: str, language: str | None
) -> None:
    found = CodeCompletion().check(asked("```kt\nval a", **options), text)
    assert found == {"language": language, "mode": "continuation", "cached": False}


@pytest.mark.parametrize(
    ("option", "value"), [("language", "klingon"), ("prefix", 3), ("suffix", None), ("path", "")]
)
def test_a_wrong_option_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(RequestError) as refused:
        CodeCompletion().accept(asked(**{option: value}))
    assert refused.value.param == f"options.{option}"
