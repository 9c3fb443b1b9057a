"""For all engines and any text `/generate` and `/check` agree, and a wrong request is a clear 400."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from handlers.engines.registry import engine_class
from handlers.inference.generator import Generator
from handlers.inference.model import LoadedModel
from handlers.sandbox.checker import Checker
from handlers.wire import GenerateRequest, RequestError
from tests.conductor_admin.gateway_rig import SETTINGS, MakeRig, Rig
from tests.engines.engine_cases import ANSWERS, OPTIONS, WORDS, OneAnswer

NAMES = sorted(OPTIONS.keys() & ANSWERS.keys())
"""All engines: `test_engines_listed.py` fails where a table lacks one."""
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
LONG_BIBLIOGRAPHY = "".join(f"@book{{a{n}, title={{x}}, author={{A}}, year=1}}\n" for n in range(100))
WRONG: tuple[Any, ...] = ("no such choice", -1, 1.5, True, [], {}, [1], "")


@pytest.fixture(scope="module")
def checker() -> Iterator[Checker]:
    checker = Checker()
    yield checker
    checker.close()


@asynccontextmanager
async def every_engine(make_rig: MakeRig) -> AsyncIterator[Rig]:
    """A gateway with a row for each engine."""
    rows = "".join(f"| {name} | Small | ~1GB | `models/small.gguf` | false | Q4_1 |\n" for name in NAMES)
    head, _, _ = SETTINGS.partition("| Conversational Chat |")
    async with make_rig(settings=head + rows) as rig:
        yield rig


async def generated(checker: Checker, engine: str, text: str, options: dict[str, Any]) -> dict[str, Any]:
    """The last record of a worker whose model answers `text`; raises the worker's RequestError."""
    model = SimpleNamespace(runtime=None, for_request=lambda *_: OneAnswer(text))
    generator = Generator(cast(LoadedModel, model))
    generator._checker = checker
    request = GenerateRequest(id="r", engine=engine, prompt="What is 6 * 7?", options=options)
    *_, last = [record async for record in generator.records(request)]
    return dict(last["done"])


async def checked(rig: Rig, engine: str, text: str, options: dict[str, Any]) -> dict[str, Any]:
    body = {"category": engine, "prompt": "What is 6 * 7?", "text": text, "options": options}
    # The first check of an engine loads its libraries.
    reply = await rig.client.post("/check", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    return dict(reply.json()["findings"])


@pytest.mark.slow
@pytest.mark.parametrize("engine", NAMES)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_generate_and_check_find_the_same(
    engine: str, checker: Checker, shared_rig: Rig, data: st.DataObject
) -> None:
    options = data.draw(OPTIONS[engine])
    text = data.draw(st.sampled_from(ANSWERS[engine]) | WORDS)
    done = await generated(checker, engine, text, options)
    found = await checked(shared_rig, engine, done["text"], options)
    of_run = engine_class(engine).run_findings
    assert found.keys() == done["findings"].keys()
    assert {k: v for k, v in found.items() if k not in of_run} == {
        k: v for k, v in done["findings"].items() if k not in of_run
    }
    assert {k: v for k, v in found.items() if k in of_run} == dict(of_run)


@pytest.fixture
async def shared_rig(make_rig: MakeRig) -> AsyncIterator[Rig]:
    async with every_engine(make_rig) as rig:
        yield rig


def fields() -> list[tuple[str, str, FieldInfo]]:
    return [
        (engine, field.alias or name, field)
        for engine in NAMES
        for name, field in engine_class(engine).options_type.model_fields.items()
    ]


def choices(field: FieldInfo) -> list[str]:
    """The words of a Literal among the types of an option."""
    schema = TypeAdapter(field.rebuild_annotation()).json_schema()
    branches = [schema, *schema.get("anyOf", [])]
    return [word for branch in branches for word in branch.get("enum", [])]


def refused(field: FieldInfo, value: Any) -> bool:
    try:
        TypeAdapter(field.rebuild_annotation()).validate_python(value, strict=True)
    except ValidationError:
        return True
    return False


@pytest.mark.parametrize(("engine", "option", "field"), fields())
async def test_a_wrong_option_is_refused_with_its_name_and_choices(
    engine: str, option: str, field: FieldInfo, checker: Checker
) -> None:
    wrong = [value for value in WRONG if refused(field, value)]
    assert wrong
    for value in wrong:
        request = GenerateRequest(id="r", engine=engine, prompt="Why?", options={option: value})
        with pytest.raises(RequestError) as failure:
            await checker.findings(request, "text")
        assert (failure.value.status, failure.value.code) == (400, "invalid_option")
        assert (failure.value.param or "").split(".")[:2] == ["options", option]
        assert f"option {option}" in failure.value.message
        assert all(word in failure.value.message for word in choices(field))


@pytest.mark.parametrize(("engine", "option", "field"), fields())
def test_every_option_is_described(engine: str, option: str, field: FieldInfo) -> None:
    assert field.description, f"{engine}: {option}"


@pytest.mark.slow
@pytest.mark.parametrize("engine", NAMES)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_any_option_and_any_text_give_findings_or_a_400(
    engine: str, checker: Checker, data: st.DataObject
) -> None:
    kind = engine_class(engine).options_type
    own = st.fixed_dictionaries({}, optional=dict.fromkeys(sorted(kind.names()), ANY_JSON))
    options = data.draw(own | OPTIONS[engine])
    prompt, text = data.draw(WORDS), data.draw(WORDS | st.sampled_from(ANSWERS[engine]))
    request = GenerateRequest(id="r", engine=engine, prompt=prompt, options=options)
    said: dict[str, Any] | RequestError
    try:
        said = await checker.findings(request, text)
    except RequestError as failure:
        said = failure
    if isinstance(said, RequestError):
        assert said.status == 400
        assert (said.param or "").startswith(("options", "prompt"))
    assert "the check failed" not in str(said)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "options", "text"),
    [
        ("code_generation", {}, "\n" * 200_000),
        ("code_generation", {}, "```py\n" + "(" * 100_000 + "\n```"),
        ("code_completion", {"prefix": "\n" * 400_000}, " " * 100_000),
        ("code_completion", {"prefix": "def f(" + ")" * 400_000}, "x"),
        ("creative_writing", {"continue_from": "a" * 400_000}, "\n" * 200_000),
        ("data_analysis", {"csv": "a\n" + "1e999\n" * 100}, "1," * 50_000),
        ("information_extraction", {"schema": {"type": "object"}}, "[" * 200_000),
        ("legal_analysis", {"document": "a " * 100_000}, '"' * 200_000),
        ("mathematical_reasoning", {"expected": "9^9^9^9"}, "\\boxed{" * 1000),
        ("question_answering", {"passages": ["a " * 50_000]}, '"a" ' * 50_000),
        ("scientific_research", {"bibliography": LONG_BIBLIOGRAPHY}, "[@" * 100_000),
        ("summarization", {}, "1.1." * 50_000),
        ("text_classification", {"labels": ["a", "b"], "multiple": True}, "[" * 200_000),
        ("translation", {"target": "fr", "inputs": ["a"]}, "[" * 200_000),
    ],
)
async def test_a_text_made_to_take_long_is_checked_all_the_same(
    engine: str, options: dict[str, Any], text: str, checker: Checker
) -> None:
    request = GenerateRequest(id="r", engine=engine, prompt="Why?", options=options)
    found = await checker.findings(request, text)
    assert "the check" not in str(found.get("warnings", []))


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("data_analysis", {"csv": "a" * 1_000_000}),
        ("data_analysis", {"csv": "," * 1_000_000}),
        ("translation", {"target": "x-private"}),
        ("translation", {"source": "\0"}),
        ("scientific_research", {"bibliography": "@book{" * 10_000}),
        ("scientific_research", {"bibliography": "{" * 100_000}),
        ("information_extraction", {"schema": {"type": "strin"}}),
        ("text_classification", {"labels": ["a", "a"]}),
    ],
)
async def test_an_option_made_to_break_a_reader_is_refused_by_name(
    engine: str, options: dict[str, Any], checker: Checker
) -> None:
    with pytest.raises(RequestError) as failure:
        await checker.findings(GenerateRequest(id="r", engine=engine, prompt="Why?", options=options), "x")
    assert failure.value.param == f"options.{next(iter(options))}"


@pytest.mark.parametrize(
    "text", ['{"a": 123456789012345678901234567890}', '{"a": 1e999}', '{"a": "\\ud800"}', '{"a": NaN}']
)
async def test_what_json_cannot_carry_on_is_no_data(text: str, checker: Checker) -> None:
    found = await checker.findings(GenerateRequest(id="r", engine="information_extraction", prompt="?"), text)
    assert found["data"] is None
    assert found["warnings"]
