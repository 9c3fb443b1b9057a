"""Classification and extraction: answers that are constrained to labels and to a schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from handlers.engines.information_extraction import InformationExtraction
from handlers.engines.registry import engine_class
from handlers.engines.text_classification import TextClassification
from handlers.sandbox.checker import Checker
from handlers.wire import GenerateRequest, RequestError
from tests.test_engines import ScriptedModel

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}


class BiasedModel(ScriptedModel):
    """Prefers `cat` for every text; `dog` and yes only if the text has a bone."""

    async def score(self, prompt: str, continuations: Sequence[str]) -> list[float]:
        bone = "bone" in prompt
        table = {" cat": -1.0, " dog": -2.0 if bone else -6.0, " yes": -1.0 if bone else -3.0, " no": -2.0}
        return [table[one] for one in continuations]


def asked(engine: str, prompt: str = "A bone!", **options: Any) -> GenerateRequest:
    return GenerateRequest(id="r", engine=engine, prompt=prompt, options=options)


async def test_a_label_is_chosen_by_what_the_text_adds() -> None:
    engine = TextClassification()
    engine.load_model(BiasedModel())
    assert await engine.generate(asked("text_classification", labels=["cat", "dog"])) == "dog"
    scores = engine.notes["scores"]
    assert scores["dog"] > 0.9
    assert sum(scores.values()) == pytest.approx(1)


async def test_several_labels_are_judged_one_by_one() -> None:
    engine = TextClassification()
    engine.load_model(BiasedModel())
    request = asked("text_classification", labels=["cat", "dog"], multiple=True)
    text = await engine.generate(request)
    assert text == '["cat", "dog"]'
    assert engine.check(request, text)["label"] == ["cat", "dog"]
    assert set(engine.notes["scores"]) == {"cat", "dog"}
    nothing = asked("text_classification", "A stone.", labels=["cat", "dog"], multiple=True)
    assert await engine.generate(nothing) == "[]"


async def test_without_labels_the_model_names_one() -> None:
    engine = TextClassification()
    engine.load_model(ScriptedModel("toys"))
    request = asked("text_classification")
    assert engine.check(request, await engine.generate(request))["label"] == "toys"


@pytest.mark.parametrize(
    ("text", "multiple"), [("fish", False), ('["cat", "fish"]', True), ("cat", True), ('{"cat": 1}', True)]
)
def test_an_answer_that_is_no_label_is_told(text: str, multiple: bool) -> None:
    request = asked("text_classification", labels=["cat", "dog"], multiple=multiple)
    found = TextClassification().check(request, text)
    assert found["label"] is None
    assert len(found["warnings"]) == 1


async def test_the_schema_binds_the_decoding() -> None:
    model, engine = ScriptedModel("{}"), InformationExtraction()
    engine.load_model(model)
    await engine.generate(asked("information_extraction", schema=SCHEMA))
    assert model.asked[0][1].json_schema == SCHEMA


def test_a_valid_answer_is_the_data() -> None:
    found = InformationExtraction().check(
        asked("information_extraction", schema=SCHEMA), '{"name": "Ada", "age": 36}'
    )
    assert found == {"data": {"name": "Ada", "age": 36}, "warnings": []}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name": "Ada", "a', "not valid JSON, or was cut off"),
        ("Ada", "not valid JSON"),
        ('{"name": NaN}', "not valid JSON"),
        ('{"age": 3}', "'name' is a required property"),
        ('{"name": 3}', "at $.name"),
    ],
)
def test_any_other_answer_is_no_data(text: str, said: str) -> None:
    found = InformationExtraction().check(asked("information_extraction", schema=SCHEMA), text)
    assert found["data"] is None
    assert said in found["warnings"][0]


def test_a_reference_to_elsewhere_is_not_fetched() -> None:
    schema = {"$ref": "http://127.0.0.1:1/schema.json"}
    found = InformationExtraction().check(asked("information_extraction", schema=schema), "{}")
    assert found["data"] is None
    assert "outside itself" in found["warnings"][0]


def test_a_pattern_that_never_ends_is_stopped() -> None:
    checker = Checker(cpu_s=0.5)
    schema = {"type": "string", "pattern": "^(a+)+$"}
    found = checker.check(asked("information_extraction", schema=schema), f'"{"a" * 60}b"')
    checker.close()
    assert found["data"] is None
    assert "stopped" in found["warnings"][0]


@pytest.mark.parametrize(
    ("engine", "options", "param"),
    [
        ("text_classification", {"labels": ["one"]}, "labels"),
        ("text_classification", {"labels": ["one", "one"]}, "labels"),
        ("text_classification", {"labels": ["one", " two"]}, "labels"),
        ("text_classification", {"multiple": True}, "labels"),
        ("text_classification", {"multiple": "yes"}, "multiple"),
        ("information_extraction", {"schema": "x"}, "schema"),
        ("information_extraction", {"schema": {"type": "thing"}}, "schema"),
    ],
)
def test_a_wrong_option_is_refused_by_name(engine: str, options: dict[str, Any], param: str) -> None:
    for ask in (engine_class(engine)().prepare, lambda request: engine_class(engine)().check(request, "x")):
        with pytest.raises(RequestError) as refused:
            ask(asked(engine, **options))
        assert (refused.value.status, refused.value.param) == (400, f"options.{param}")
