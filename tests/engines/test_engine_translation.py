"""Translation: prompts for each kind of model, no lost text, and failures of every check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from handlers.checks.text.languages import english_name, known_as, language_code
from handlers.engines.translation import Translation
from handlers.inference.tokenizer import language_pair
from handlers.wire import GenerateRequest, Message, RequestError
from tests.test_engines import ScriptedModel

FLORES = frozenset({"eng_Latn", "fra_Latn", "deu_Latn", "zho_Hans", "zho_Hant", "arb_Arab", "srp_Cyrl"})


class EchoModel(ScriptedModel):
    """Returns every piece in angle brackets, on two lines."""

    async def stream(self, messages: Any, sampling: Any) -> Any:
        self.asked.append((list(messages), sampling))
        yield f" <{messages[-1].content}"
        yield ">\n"


def asked(prompt: str, **options: Any) -> GenerateRequest:
    return GenerateRequest(id="r", engine="translation", prompt=prompt, options=options)


async def translated(model: ScriptedModel, request: GenerateRequest) -> str:
    engine = Translation()
    engine.load_model(model)
    return await engine.generate(request)


def warnings(source: str, translation: str, **options: Any) -> list[str]:
    found = Translation().check(asked(source, **{"source": "en", "target": "de", **options}), translation)
    return list(found["warnings"])


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("fr", "fra_Latn"), ("fra_Latn", "fra_Latn"), ("French", "fra_Latn"), ("français", "fra_Latn"),
        ("zh-TW", "zho_Hant"), ("Chinese (Simplified)", "zho_Hans"), ("ar", "arb_Arab"), ("fa", "pes_Arab"),
        ("ms", "zsm_Latn"), ("no", "nob_Latn"), ("Dari", "prs_Arab"), ("Portuguese (Brazil)", "por_Latn"),
        ("quy_Latn", "quy_Latn"), ("blah", None), ("", None), ("x" * 500, None), ("a\0b", None),
    ],
)  # fmt: skip
def test_a_language_is_known_by_code_and_by_name(name: str, code: str | None) -> None:
    assert language_code(name) == code


def test_every_language_of_nllb_is_known_by_its_code() -> None:
    from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as codes

    assert len(codes) == 202
    assert [code for code in codes if language_code(code) != code or known_as(code, codes) != code] == []


@pytest.mark.parametrize(("code", "known"), [("fra_Latn", "fr"), ("nso_Latn", "ns"), ("zho_Hant", "zh")])
def test_a_code_is_found_among_the_short_ones_of_m2m100(code: str, known: str) -> None:
    assert known_as(code, {"fr", "ns", "zh", "en"}) == known


def test_an_instruction_names_languages_as_people_do() -> None:
    assert english_name("zho_Hans") == "Chinese (Simplified)"
    assert english_name("fra_Latn") == "French"


async def test_layout_stays_and_each_line_is_asked_for_alone() -> None:
    model = EchoModel()
    text = "Title\n\n  First. Second.\n---\n\tlast line"
    assert await translated(model, asked(text, source="en", target="de")) == (
        "<Title>\n\n  <First. Second.>\n---\n\t<last line>"
    )
    system, user = model.asked[1][0]
    assert "from English into German" in system.content
    assert user == Message(role="user", content="First. Second.")


async def test_a_long_paragraph_is_asked_for_in_pieces_that_fit() -> None:
    model = EchoModel()
    model.context = 40
    text = " ".join(f"This is sentence number {n} of many." for n in range(12))
    answer = await translated(model, asked(text, source="en", target="de"))
    assert len(model.asked) > 4
    assert answer.replace("<", "").replace(">", "") == text


async def test_a_translation_model_gets_sentences_with_its_own_codes() -> None:
    model = ScriptedModel()
    model.languages = FLORES
    text = "Hello Dr. Smith. How are you?\n\nFine."
    answer = await translated(model, asked(text, source="English", target="zh-TW"))
    assert answer == (
        "<eng_Latn>zho_Hant:Hello Dr. Smith. <eng_Latn>zho_Hant:How are you?\n\n<eng_Latn>zho_Hant:Fine."
    )


async def test_a_model_of_one_pair_gets_no_codes() -> None:
    model = ScriptedModel()
    model.languages = frozenset()
    assert await translated(model, asked("Hello.", target="de")) == "<->-:Hello."


@pytest.mark.parametrize(
    ("pair", "options", "at_fault"),
    [
        (("en", "de"), {"target": "French"}, "target"),
        (("en", "de"), {"target": "German", "source": "French"}, "source"),
        (("eng", "deu"), {"target": "fr"}, "target"),
        (("en", "de"), {"target": "German", "source": "en"}, None),
        (("en", "zh"), {"target": "zh-TW"}, None),
        (("en", "ROMANCE"), {"target": "French"}, None),
        (("mul", "en"), {"target": "en", "source": "French"}, None),
        (None, {"target": "French"}, None),
    ],
)
async def test_a_model_of_one_pair_is_asked_for_no_other(
    pair: tuple[str, str] | None, options: dict[str, str], at_fault: str | None
) -> None:
    model = ScriptedModel()
    model.languages, model.pair = frozenset(), pair
    if at_fault is None:
        assert await translated(model, asked("Hello.", **options)) == "<->-:Hello."
        return
    with pytest.raises(RequestError, match=f"option {at_fault}: .* English into German") as refused:
        await translated(model, asked("Hello.", **options))
    assert refused.value.param == f"options.{at_fault}"


def test_the_pair_of_a_model_is_read_from_its_folder(tmp_path: Path) -> None:
    assert language_pair(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"source_lang": "en", "target_lang": "de"}', encoding="utf-8")
    assert language_pair(tmp_path) == ("en", "de")
    config.write_text('{"source_lang": null, "target_lang": "de"}', encoding="utf-8")
    assert language_pair(tmp_path) is None


async def test_a_batch_is_answered_as_a_json_list() -> None:
    request = asked("-", source="en", target="de", inputs=["One.", 'A "quoted" line\nand another'])
    answer = await translated(EchoModel(), request)
    assert json.loads(answer) == ["<One.>", '<A "quoted" line>\n<and another>']
    found = Translation().check(request, answer)
    assert found["translations"] == json.loads(answer)


async def test_the_source_language_is_detected_for_a_model_that_must_be_told() -> None:
    model = ScriptedModel()
    model.languages = FLORES
    answer = await translated(model, asked("Bonjour tout le monde, comment allez-vous ?", target="en"))
    assert answer.startswith("<fra_Latn>eng_Latn:")


async def test_a_prompt_may_name_the_target_in_words() -> None:
    model = EchoModel()
    assert await translated(model, asked("Translate the following text to French: Good morning.")) == (
        "<Good morning.>"
    )
    assert "into French" in model.asked[0][0][0].content
    free = EchoModel()
    await translated(free, asked("How does one say good morning in French?"))
    assert free.asked[0][0][-1].content == "How does one say good morning in French?"


async def test_the_register_is_asked_for() -> None:
    model = EchoModel()
    await translated(model, asked("How are you?", source="en", target="de", register="formal"))
    assert "formal register" in model.asked[0][0][0].content


async def test_max_tokens_counts_for_the_whole_translation() -> None:
    model = EchoModel()
    model.usage = model.usage.model_copy(update={"completion_tokens": 5})
    request = GenerateRequest.model_validate(
        {**asked("One.\nTwo.", target="de").model_dump(), "sampling": {"max_tokens": 5}}
    )
    await translated(model, request)
    assert model.asked == []
    assert model.finish_reason == "length"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"target": "Elbonian"}, "options.target"),
        ({"source": "??", "target": "de"}, "options.source"),
        ({"target": 3}, "options.target"),
        ({"target": "de", "register": "rude"}, "options.register"),
        ({"target": "de", "inputs": []}, "options.inputs"),
        ({"target": "de", "inputs": [1]}, "options.inputs.0"),
        ({"inputs": ["a"]}, "options.target"),
    ],
)
async def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as refused:
        await translated(EchoModel(), asked("Hello", **options))
    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"target": "Maltese", "source": "en"}, "options.target"),
        ({"source": "en"}, "options.target"),
        ({"source": "en", "target": "de", "register": "formal"}, "options.register"),
    ],
)
async def test_what_a_translation_model_cannot_do_is_refused(options: dict[str, Any], param: str) -> None:
    model = ScriptedModel()
    model.languages = FLORES
    with pytest.raises(RequestError) as refused:
        await translated(model, asked("Hello", **options))
    assert (refused.value.status, refused.value.param) == (400, param)


def test_a_good_translation_has_no_warnings() -> None:
    assert (
        warnings("The weather is nice today.\nWe go out.", "Das Wetter ist heute schön.\nWir gehen aus.")
        == []
    )


def test_a_translation_into_another_language_is_told() -> None:
    (warning,) = warnings("The weather is very nice today.", "Le temps est très beau aujourd'hui.")
    assert warning == "language: the translation is not in German"


@pytest.mark.parametrize("translation", ["Gut.", "Das Wetter ist heute wirklich sehr schön. " * 5])
def test_a_translation_of_an_unlikely_length_is_told(translation: str) -> None:
    assert any(w.startswith("length:") for w in warnings("The weather is very nice today.", translation))


def test_words_left_as_they_were_are_told() -> None:
    source = "The old lighthouse stands on the northern cliff and its keeper has gone home for winter."
    half = "Der alte Leuchtturm steht auf der Klippe im Norden and its keeper has gone home im Winter."
    assert warnings(source, half) == ["untranslated: 'and its keeper has gone home'"]


def test_lost_lines_and_missing_translations_are_told() -> None:
    assert [w[:6] for w in warnings("One line.\nAnd two.", "Eine Zeile und noch eine.")] == ["lines:"]
    assert [w[:6] for w in warnings("One line.", "  ")] == ["empty:"]
    batch = warnings("-", '["Eins."]', inputs=["One.", "Two."])
    assert batch == ["count: 2 texts, 1 translations"]
    assert warnings("-", "no list", inputs=["One."]) == ["form: the answer is not a JSON list of texts"]
