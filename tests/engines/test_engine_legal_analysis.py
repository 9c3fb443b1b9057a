"""Legal analysis: the prompt for each part, and quotations that are not in the document."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.checks.text.legal_terms import CLAUSES, NOTE, item_schema
from handlers.checks.text.quotes import SourceText, quotations
from handlers.engines._documents import clauses, parts
from handlers.engines.legal_analysis import LegalAnalysis
from handlers.wire import GenerateRequest, RequestError
from tests.test_engines import ScriptedModel

CONTRACT = """SERVICES AGREEMENT

1. Term. This Agreement begins on 1 March 2026 and
   continues for two years.

2. Termination. Either party may terminate this Agreement for convenience upon thirty (30) days’ notice.

3. Liability. The Supplier's liability is limited to the fees paid.
"""


def asked(prompt: str = "Review it.", **options: Any) -> GenerateRequest:
    return GenerateRequest(id="r", engine="legal_analysis", prompt=prompt, options=options)


def found(text: str, **options: Any) -> dict[str, Any]:
    return LegalAnalysis().check(asked(**{"document": CONTRACT, **options}), text)


def items(*quotes: str) -> str:
    return json.dumps({"items": [{"clause": "Term", "quote": quote} for quote in quotes]})


async def analysed(model: ScriptedModel, request: GenerateRequest) -> str:
    engine = LegalAnalysis()
    engine.load_model(model)
    return await engine.generate(request)


def test_a_quote_is_found_over_line_breaks_and_curly_marks() -> None:
    answer = found(items("This Agreement begins on 1 March 2026 and continues", "thirty (30) days' notice"))
    assert [(q["found"], CONTRACT[q["start"] :][:6]) for q in answer["quotes"]] == [
        (True, "This A"),
        (True, "thirty"),
    ]
    assert answer["warnings"] == []
    assert answer["note"] == NOTE
    assert len(answer["items"]) == 2


@pytest.mark.parametrize(
    "quote",
    [
        "Either party may terminate this Agreement for convenience upon sixty (60) days' notice",
        "This Agreement begins on 1 March 2026 ... fees paid",
        "this agreement begins",
        "The Supplier shall indemnify the Client.",
    ],
)
def test_an_invented_or_altered_quote_is_flagged(quote: str) -> None:
    answer = found(items(quote))
    assert answer["quotes"] == [{"text": quote, "found": False, "start": None}]
    assert answer["warnings"] == [f"quote not in the document: {quote!r}"]


def test_quotations_in_prose_are_looked_up_too() -> None:
    answer = LegalAnalysis().check(
        asked(CONTRACT), 'It says “continues for two years” and "may be renewed at will"; “Term” is a word.'
    )
    assert [(q["text"], q["found"]) for q in answer["quotes"]] == [
        ("continues for two years", True),
        ("may be renewed at will", False),
    ]


@pytest.mark.parametrize(
    "text", ['{"items": [{"clause": "Te', "No JSON.", '{"items": 3}', "[" * 100_000, "NaN"]
)
def test_an_answer_that_is_not_whole_json_has_no_items(text: str) -> None:
    answer = found(text)
    assert answer["items"] is None
    assert answer["warnings"][0] == "the answer is not valid JSON, or was cut off"


def test_the_strings_of_a_cut_answer_are_no_quotations() -> None:
    answer = found('{"items": [{"clause": "Notice Period To Terminate", "quote": "Either par')
    assert (answer["items"], answer["quotes"], len(answer["warnings"])) == (None, [], 1)


async def test_a_task_is_answered_by_its_schema() -> None:
    model = ScriptedModel(items("x"))
    await analysed(
        model, asked(task="risk", document=CONTRACT, area="contract", jurisdiction="England and Wales")
    )
    (system, user), sampling = model.asked[0]
    assert "likelihood" in system.content
    assert "England and Wales" in system.content
    assert user.content == f"Document:\n\n{CONTRACT}\n\nReview it."
    assert sampling.json_schema == item_schema("risk")


@pytest.mark.parametrize("task", ["review", "risk", "compliance", "clauses"])
def test_every_schema_is_one(task: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(item_schema(task))


def test_the_clause_list_is_the_published_one() -> None:
    assert len(set(CLAUSES)) == 41


async def test_compliance_names_the_requirements() -> None:
    model = ScriptedModel(items(), items())
    await analysed(model, asked(task="compliance", document=CONTRACT, regulation="gdpr"))
    await analysed(model, asked(task="compliance", document=CONTRACT, regulation="Dogs on a lead."))
    assert "Art. 33-34" in model.asked[0][0][0].content
    assert "Dogs on a lead." in model.asked[1][0][0].content


async def test_a_long_document_is_read_in_parts_of_whole_clauses() -> None:
    text = "".join(f"{n}. Clause {n}. {'The parties agree on this point. ' * 20}\n\n" for n in range(1, 16))
    model = ScriptedModel(*(items(f"Clause {n}.") for n in range(20)))
    answer = await analysed(model, asked(document=text))
    asked_parts = [conversation[-1].content for conversation, _ in model.asked]
    assert len(asked_parts) > 2
    assert asked_parts[1].startswith(f"Document (part 2 of {len(asked_parts)}):\n\n")
    assert all(part.split(":\n\n")[1].split(".")[0].isdigit() for part in asked_parts)
    assert len(json.loads(answer)["items"]) == len(asked_parts)


async def test_a_part_whose_answer_is_cut_ends_the_answer() -> None:
    text = "".join(f"{n}. Clause {n}. {'The parties agree on this point. ' * 20}\n\n" for n in range(1, 16))
    model = ScriptedModel(items("one"), '{"items": [{"clause"')
    request = asked(document=text)
    answer = await analysed(model, request)
    assert len(model.asked) == 2
    assert LegalAnalysis().check(request, answer)["items"] is None


async def test_a_question_without_a_document_is_answered_in_prose() -> None:
    model = ScriptedModel("An answer.")
    await analysed(model, asked("What is consideration?"))
    assert model.asked[0][1].json_schema is None
    assert LegalAnalysis().check(asked("What is consideration?"), "An answer.")["items"] == []


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"task": "win"}, "options.task"),
        ({"area": "space"}, "options.area"),
        ({"task": "compliance", "document": "x"}, "options.regulation"),
        ({"document": ""}, "options.document"),
        ({"jurisdiction": 3}, "options.jurisdiction"),
    ],
)
async def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as refused:
        await analysed(ScriptedModel("x"), asked(**options))
    assert (refused.value.status, refused.value.param) == (400, param)
    with pytest.raises(RequestError):
        LegalAnalysis().check(asked(**options), "x")


@given(st.text(alphabet="1. aA\n(§b)", max_size=400), st.integers(1, 60))
def test_no_character_of_a_document_is_lost(text: str, size: int) -> None:
    assert "".join(clauses(text)) == text
    pieces = parts(text, lambda piece: len(piece) <= size)
    assert "".join(pieces) == text
    assert all(len(piece) <= size for piece in pieces)


@given(
    st.lists(st.sampled_from(["shall", "pay", "“fees”", "the", "(30)", "—"]), min_size=3, max_size=30),
    st.data(),
)
def test_any_run_of_words_is_found_however_it_is_spaced(words: list[str], data: st.DataObject) -> None:
    source = " \n".join(words)
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    quote = "\t ".join(words[start:end])
    assert (SourceText(source).locate(quote) is not None) == any(w.strip("“”\"' ") for w in words[start:end])


def test_quotations_need_three_words() -> None:
    assert quotations('"two words" and "now three words"') == ["now three words"]


def test_neighbouring_clauses_are_apart() -> None:
    found_clauses = clauses(CONTRACT)
    assert [c.strip()[:2] for c in found_clauses] == ["SE", "1.", "2.", "3."]
    assert all(a != b for a, b in pairwise(found_clauses))
