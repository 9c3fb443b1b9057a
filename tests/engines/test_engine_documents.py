"""Summaries, answers over passages and creative texts: prompts, and failures of every check."""

from __future__ import annotations

from typing import Any

import pytest

from handlers.checks.text.quotes import SourceText, quotations
from handlers.engines.creative_writing import CreativeWriting
from handlers.engines.question_answering import QuestionAnswering
from handlers.engines.registry import engine_class
from handlers.engines.summarization import Summarization
from handlers.wire import GenerateRequest, RequestError
from tests.test_engines import ScriptedModel

TEXT = "In 1999 the company sold 1,200 boats. It then moved to Oslo, where 35 people work for it today."
PASSAGES = ["The bridge was opened in 1932.", "It is “made of steel” and\n painted grey."]


def asked(engine: str, prompt: str = "Go on.", **options: Any) -> GenerateRequest:
    return GenerateRequest(id="r", engine=engine, prompt=prompt, options=options)


async def test_a_text_that_fits_is_summarised_in_one_call() -> None:
    model, engine = ScriptedModel("Boats."), Summarization()
    engine.load_model(model)
    await engine.generate(asked("summarization", TEXT, length="short", style="bullets"))
    system, user = model.asked[0][0]
    assert "two or three sentences" in system.content
    assert "bullet points" in system.content
    assert user.content == f"Text:\n\n{TEXT}"
    assert engine.notes == {"chunks": 1}


async def test_a_long_text_is_summarised_in_parts_and_then_as_a_whole() -> None:
    text = "\n\n".join(f"Paragraph {n} says a thing. {'And another thing. ' * 60}" for n in range(10))
    model, engine = ScriptedModel(*(f"summary{n}" for n in range(20))), Summarization()
    engine.load_model(model)
    answer = await engine.generate(asked("summarization", "Mind the numbers.", document=text))
    chunks = engine.notes["chunks"]
    assert chunks > 2
    assert len(model.asked) == chunks + 1
    assert answer == f"summary{chunks}"
    last = model.asked[-1][0][-1].content
    assert all(f"summary{n}" in last for n in range(chunks))
    assert last.endswith("Mind the numbers.")
    assert "".join(m[-1].content for m, _ in model.asked[:-1]).count("says a thing") == 10


async def test_a_model_that_does_not_shorten_comes_to_an_end() -> None:
    text = "One more word. " * 2000
    model, engine = ScriptedModel(*["One more word. " * 300] * 200), Summarization()
    engine.load_model(model)
    assert await engine.generate(asked("summarization", text))


def test_a_summary_is_measured() -> None:
    found = Summarization().check(asked("summarization", TEXT), "In 1999 it sold 1200 boats.")
    assert found == {"chunks": 1, "words": 6, "warnings": []}


def test_an_invented_number_and_a_long_summary_are_told() -> None:
    check = Summarization().check
    assert check(asked("summarization", TEXT), "It sold 1,300 boats.")["warnings"] == [
        "number not in the text: 1300"
    ]
    assert [w[:7] for w in check(asked("summarization", TEXT), TEXT)["warnings"]] == ["length:"]
    long = asked("summarization", "word " * 900, length="short")
    assert check(long, "word " * 200)["warnings"] == ["length: 200 words is too long for a short summary"]


async def test_passages_are_numbered_before_the_question() -> None:
    model, engine = ScriptedModel("x", "x"), QuestionAnswering()
    engine.load_model(model)
    await engine.generate(asked("question_answering", "When?", passages=PASSAGES))
    system, user = model.asked[0][0]
    assert "nothing but the passages" in system.content
    assert user.content.startswith("Passages:\n\n[1] The bridge")
    assert user.content.endswith("Question: When?")
    await engine.generate(asked("question_answering", "When?"))
    assert model.asked[1][0][-1].content == "When?"


def test_a_quote_is_found_in_its_passage() -> None:
    text = 'It says "was opened in 1932" and "of steel” and painted grey".'
    found = QuestionAnswering().check(asked("question_answering", passages=PASSAGES), text)
    assert found["quotes"][0] == {"text": "was opened in 1932", "found": True, "passage": 0}


def test_an_invented_quote_and_an_answer_without_one_are_told() -> None:
    check = QuestionAnswering().check
    found = check(asked("question_answering", passages=PASSAGES), 'It "was opened in 1933" they say.')
    assert found["quotes"] == [{"text": "was opened in 1933", "found": False, "passage": None}]
    assert found["warnings"] == ["quote not in any passage: 'was opened in 1933'"]
    assert check(asked("question_answering", passages=PASSAGES), "1932.")["warnings"] == [
        "the answer does not quote any passage"
    ]
    assert check(asked("question_answering"), 'So "it was not so" at all.') == {"quotes": [], "warnings": []}


def test_quotations_in_curly_marks_count_and_apostrophes_do_not() -> None:
    text = "It says ‘was opened in 1933’ and the bridge’s owner’s word, «painted  grey. It is»."
    assert quotations(text) == ["was opened in 1933", "painted  grey. It is"]


@pytest.mark.parametrize(
    ("quote", "start"),
    [
        ("The tenant pays … in advance", 3),
        ("The tenant pays [...] in advance ...", 3),
        ("... rent every month", 19),
        ("The tenant pays … in arrears", None),
        ("in advance … The tenant", None),
        ("the tenant pays", None),
        ("The tenant pays in advance", None),
        ("The tenant … far away", None),
        ("…", None),
    ],
)
def test_an_ellipsis_leaves_words_out_and_adds_none(quote: str, start: int | None) -> None:
    source = "1. The tenant pays rent every month,\n  in advance.\n2. It is far away.\n\nSo far away."
    assert SourceText(source).locate(quote) == start


async def test_writing_is_told_form_tone_length_and_view() -> None:
    model, engine = ScriptedModel("x"), CreativeWriting()
    engine.load_model(model)
    options = {"form": "poem", "tone": "wry", "length": 80, "point_of_view": "first", "continue_from": "Once"}
    await engine.generate(asked("creative_writing", "Of rain.", **options))
    system, user = model.asked[0][0]
    for said in ("Write a poem.", "wry", "about 80 words", "first person", "Continue"):
        assert said in system.content
    assert user.content == "Of rain.\n\nThe text so far:\n\nOnce"


def test_a_creative_text_is_measured() -> None:
    check = CreativeWriting().check
    good = "an old silent pond\na frog jumps into the pond\nsplash silence again"
    assert check(asked("creative_writing", form="haiku"), good) == {"words": 13, "warnings": []}
    assert check(asked("creative_writing", form="haiku"), "One line.")["warnings"] == [
        "form: a haiku has 3 lines, this has 1"
    ]
    assert check(asked("creative_writing", length="long"), "Short.")["warnings"] == [
        "length: 1 words; about 1200 were requested"
    ]
    assert check(asked("creative_writing", continue_from="Once upon"), "Once upon a time")["warnings"] == [
        "continuation: the answer repeats the given text"
    ]


@pytest.mark.parametrize(
    ("engine", "options", "param"),
    [
        ("summarization", {"length": "tiny"}, "length"),
        ("summarization", {"style": 3}, "style"),
        ("summarization", {"document": ""}, "document"),
        ("question_answering", {"passages": "text"}, "passages"),
        ("question_answering", {"passages": []}, "passages"),
        ("creative_writing", {"form": "opera"}, "form"),
        ("creative_writing", {"point_of_view": "fourth"}, "point_of_view"),
        ("creative_writing", {"tone": ""}, "tone"),
    ],
)
def test_a_wrong_option_is_refused_by_name(engine: str, options: dict[str, Any], param: str) -> None:
    for ask in (engine_class(engine)().prepare, lambda request: engine_class(engine)().check(request, "x")):
        with pytest.raises(RequestError) as refused:
            ask(asked(engine, **options))
        assert (refused.value.status, refused.value.param) == (400, f"options.{param}")
