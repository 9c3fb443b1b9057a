"""The planner alone: rows, personas, engines and sessions of a body, and every refusal by its fields."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from conductor_admin.auth.caller import ANYONE, Caller
from conductor_admin.planner import (
    PlannedRequest,
    SessionAsk,
    find_row,
    known_persona,
    persona_text,
    plan,
    row_options,
    row_sampling,
)
from conductor_core.catalogue import Catalogue, Row
from conductor_core.settings.parser import parse_settings
from handlers.engines.registry import engine_names
from handlers.wire import GenerateBody, MessageBody, RequestError, Sampling

TRANSLATOR = Caller("key_t", "t", categories=frozenset({"translation"}))
LAWYER = Caller("key_l", "l", categories=frozenset({"legal_analysis", "translation"}))
NOBODY = Caller("key_n", "n", categories=frozenset())


def planned(
    catalogue: Catalogue, caller: Caller = ANYONE, version: str | None = None, **body: Any
) -> PlannedRequest:
    given = body if "messages" in body else {"prompt": "x", **body}
    return plan(catalogue, GenerateBody(**given), "id", caller=caller, version=version)


def refused(catalogue: Catalogue, caller: Caller = ANYONE, **body: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        planned(catalogue, caller, **body)
    return caught.value


def told(error: RequestError) -> tuple[int, str, str | None, str | None]:
    return error.status, error.type, error.code, error.param


def test_a_request_without_a_category_gets_the_first_row_that_its_key_may_use(catalogue: Catalogue) -> None:
    assert find_row(catalogue, None, ANYONE).slug == "conversational_chat"
    assert find_row(catalogue, None, TRANSLATOR).slug == "translation"
    assert find_row(catalogue, None, LAWYER).slug == "legal_analysis"
    error = refused(catalogue, NOBODY)
    assert told(error) == (404, "invalid_request_error", "model_not_found", "category")
    assert error.message == "this key may not use any category of this server"


def test_no_category_means_conversation_and_names_work_as_slugs(catalogue: Catalogue) -> None:
    assert find_row(catalogue, None, ANYONE).slug == "conversational_chat"
    assert find_row(catalogue, "Legal Analysis", ANYONE).slug == "legal_analysis"


@pytest.mark.parametrize("category", ["", "x" * 200, "a/b", "%2e%2e", "a\r\nb", "token", "日本"])
def test_odd_categories_are_not_found(catalogue: Catalogue, category: str) -> None:
    with pytest.raises(RequestError) as caught:
        find_row(catalogue, category, ANYONE)
    assert (caught.value.status, caught.value.param) == (404, "category")
    assert len(caught.value.message) < 200


def test_request_values_go_over_the_rows_parameters(catalogue: Catalogue) -> None:
    body = GenerateBody(prompt="x", category="translation", temperature=1.5)
    job = plan(catalogue, body, "id", caller=ANYONE)
    assert (job.request.sampling.temperature, job.request.sampling.max_tokens) == (1.5, 77)
    assert job.set_name == "translation"


def table_of(*categories: str) -> Catalogue:
    """The catalogue of a table with these categories."""
    head = "Category/Area|Best Open Source Model|VRAM/RAM Requirements|Technical Model Name|Precision"
    rows = "".join(f"| {name} | m | ~1GB | `models/m.gguf` | Q4_1 | false |\n" for name in categories)
    return parse_settings(f"|{head}|Stay Loaded|\n|-|-|-|-|-|-|\n{rows}")


def test_conversation_answers_wherever_its_row_is() -> None:
    table = table_of("Translation", "Legal Analysis", "Conversational Chat")
    both = Caller("key", categories=frozenset({"translation", "conversational_chat"}))
    for caller in (ANYONE, both):
        assert find_row(table, None, caller).slug == "conversational_chat"


def test_a_table_without_conversation_answers_with_its_first_row() -> None:
    assert find_row(table_of("Translation", "Legal Analysis"), None, ANYONE).slug == "translation"


@pytest.mark.parametrize(
    ("category", "hint"),
    [
        ("Legal_Analysys", "did you mean legal_analysis?"),
        ("TRANSLATIN", "did you mean translation?"),
        ("zzz", "GET /models lists the categories"),
    ],
)
def test_an_unknown_category_is_refused_with_close_names(
    catalogue: Catalogue, category: str, hint: str
) -> None:
    error = refused(catalogue, category=category)
    assert told(error) == (404, "invalid_request_error", "model_not_found", "category")
    assert error.message == f"no category {category!r}; {hint}"


def test_three_close_names_are_shown_and_none_of_a_row_that_is_hidden() -> None:
    table = table_of(*(f"Chat {n}" for n in range(5)))
    assert refused(table, category="chat_x").message.endswith("; did you mean chat_4, chat_3, chat_2?")
    only = Caller("key", categories=frozenset({"chat_0"}))
    assert refused(table, only, category="chat_1").message.endswith("; did you mean chat_0?")


def test_a_long_category_is_shown_by_its_beginning(catalogue: Catalogue) -> None:
    assert repr("y" * 64) in refused(catalogue, category="y" * 65).message


def test_a_plan_has_everything_that_the_body_says(catalogue: Catalogue) -> None:
    body = {"category": "legal_analysis", "max_wait_s": 3, "keep_alive": 7, "persona": "pirate"}
    job = planned(catalogue, LAWYER, version="1.2", options={"o": 1}, seed=5, **body)
    assert (job.row.slug, job.set_name) == ("legal_analysis", "conversational_chat")
    assert (job.caller, job.version, job.session, job.reason) == (LAWYER, "1.2", None, None)
    assert (job.max_wait_s, job.keep_alive_s) == (3, 7)
    request = job.request
    assert (request.id, request.client, request.engine) == ("id", "key_l", "legal_analysis")
    assert (request.prompt, request.messages, request.system) == ("x", None, "You are a pirate.")
    assert (request.sampling, request.options) == (Sampling(seed=5), {"o": 1})


def test_messages_are_planned_in_place_of_a_prompt(catalogue: Catalogue) -> None:
    messages = [MessageBody(role="user", content="a"), MessageBody(role="assistant", content="b")]
    request = planned(catalogue, messages=messages).request
    assert (request.prompt, request.messages) == (None, messages)


def with_parameters(catalogue: Catalogue, **parameters: Any) -> Catalogue:
    """The catalogue whose translation row has these parameters."""
    rows = tuple(
        replace(row, parameters=parameters) if row.slug == "translation" else row for row in catalogue.rows
    )
    return replace(catalogue, rows=rows)


def test_a_rows_parameters_are_for_its_decoding_and_its_own_engine(catalogue: Catalogue) -> None:
    page = with_parameters(catalogue, top_k=3, target="de", style="plain")
    own = planned(page, category="translation", options={"style": "formal"}).request
    assert (own.engine, own.sampling.top_k) == ("translation", 3)
    assert own.options == {"target": "de", "style": "formal"}
    other = planned(
        page, category="translation", engine="legal_analysis", options={"style": "formal"}
    ).request
    assert (other.engine, other.sampling.top_k, other.options) == ("legal_analysis", 3, {"style": "formal"})
    row: Row = page.rows[-1]
    assert row_options(row) == {"target": "de", "style": "plain"}
    assert row_sampling(row) == Sampling(top_k=3)


def test_a_restricted_key_keeps_to_the_engine_of_its_row(catalogue: Catalogue) -> None:
    error = refused(catalogue, TRANSLATOR, engine="legal_analysis")
    assert told(error) == (403, "permission_error", "engine_not_allowed", "engine")
    assert error.message == "this key is for translation with its own engine, translation"
    assert planned(catalogue, TRANSLATOR, engine="translation").request.engine == "translation"
    assert (
        planned(catalogue, category="translation", engine="legal_analysis").request.engine == "legal_analysis"
    )


def test_an_unknown_engine_is_refused_with_those_that_exist(catalogue: Catalogue) -> None:
    error = refused(catalogue, engine="e" * 65)
    assert told(error) == (400, "invalid_request_error", "unknown_engine", "engine")
    names = ", ".join(engine_names())
    assert error.message == f"no engine {'e' * 64!r}; available engines: {names}"


@pytest.mark.parametrize("new", ["new", True])
def test_a_new_session_gets_an_id_of_its_own_and_its_persona(catalogue: Catalogue, new: Any) -> None:
    first, second = (planned(catalogue, session=new, persona="Pirate").session for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.is_new, first.persona, len(first.id)) == (True, "Pirate", 32)
    assert first.id != second.id


def test_a_session_is_continued_by_its_id(catalogue: Catalogue) -> None:
    job = planned(catalogue, session_id="a" * 32, persona="Pirate")
    assert job.session == SessionAsk("a" * 32, is_new=False, persona="Pirate")
    assert planned(catalogue, session_id="a" * 32).session == SessionAsk("a" * 32)


def test_a_session_is_not_begun_and_continued_at_once(catalogue: Catalogue) -> None:
    error = refused(catalogue, session="new", session_id="a" * 32)
    assert told(error) == (400, "invalid_request_error", "invalid_value", "session")
    assert error.message == "give session for a new session or session_id to continue one, not both"


def test_only_conversation_has_a_persona_by_itself(catalogue: Catalogue) -> None:
    chat, law, _ = catalogue.rows
    assert persona_text(catalogue, None, chat) == "You are kind."
    assert persona_text(catalogue, None, law) is None
    for row in (chat, law):
        assert persona_text(catalogue, "PIRATE", row) == "You are a pirate."


def test_an_unknown_persona_is_refused_with_those_that_exist(catalogue: Catalogue) -> None:
    with pytest.raises(RequestError) as caught:
        known_persona(replace(catalogue, personas={"b": "", "A": ""}), "p" * 65)
    assert told(caught.value) == (404, "invalid_request_error", "persona_not_found", "persona")
    assert caught.value.message == f"no persona {'p' * 64!r}; there are: A, b"
    with pytest.raises(RequestError, match=r"there are: none$"):
        known_persona(replace(catalogue, personas={}), "pirate")
