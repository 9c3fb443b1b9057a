"""Log-probabilities, biases, echoes and raw prompts: the same tests over every runtime, on the demo model."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from handlers.inference.model import LoadedModel
from handlers.wire import Message, RequestError, Sampling
from tests.contract import direct
from tests.contract.subject import END, TOLERANCE, Subject
from tests.sure import CONVERSATION
from tests.sure import TEXT as SURE

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

TEXT = "The capital of France is Paris. The capital of Germany is Berlin. Two and two is"
GREEDY = Sampling(temperature=0.0, max_tokens=8, logprobs=True)


def rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for record in records for row in record.get("logprobs", ())]


def bare(**sampling: Any) -> dict[str, Any]:
    return {"prompt": TEXT, "bare": True, "sampling": GREEDY.model_copy(update=sampling)}


async def test_logprobs_of_the_answer_are_its_score(subject: Subject) -> None:
    records = await subject.all_records(**bare())
    told = rows(records)
    ids = subject.tokenizer.encode_raw(TEXT)
    (score,) = await subject.runtime.score(ids, [[row["id"] for row in told]])
    assert [row["logprob"] for row in told] == pytest.approx(score, abs=TOLERANCE[subject.name])
    assert records[-1]["done"]["logprobs"] == told
    assert len(told) == records[-1]["done"]["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    "changed", [{"temperature": 0.7, "seed": 3, "top_p": 0.5}, {"frequency_penalty": 2.0}], ids=str
)
async def test_logprobs_are_the_models_own_whatever_the_decoding(
    subject: Subject, changed: dict[str, Any]
) -> None:
    told = rows(await subject.all_records(**bare(**changed)))
    ids = subject.tokenizer.encode_raw(TEXT)
    (score,) = await subject.runtime.score(ids, [[row["id"] for row in told]])
    assert [row["logprob"] for row in told] == pytest.approx(score, abs=TOLERANCE[subject.name])


async def test_a_score_asked_twice_is_the_same(subject: Subject) -> None:
    model = LoadedModel(subject.runtime, subject.tokenizer, subject.refused).for_request("score")
    asked = ("The capital of Italy, as everybody knows, is", [" Rome", " Rome and Milan", " Rome or Naples"])
    first = await model.score(*asked)
    assert await model.score(*asked) == pytest.approx(first, abs=1e-3)
    alone = [(await model.score(asked[0], [text]))[0] for text in asked[1]]
    assert alone == pytest.approx(first, abs=TOLERANCE[subject.name])


async def test_what_a_generation_left_in_the_prefix_cache_hides_no_score(subject: Subject) -> None:
    model = LoadedModel(subject.runtime, subject.tokenizer, subject.refused).for_request("score")
    told = rows(await subject.all_records(**bare(max_tokens=6)))
    said = "".join(row["token"] for row in told)
    (score,) = await model.score(TEXT, [said])
    assert score == pytest.approx(sum(row["logprob"] for row in told), abs=6 * TOLERANCE[subject.name])


async def test_an_echo_has_the_prompt_with_the_models_logprobs(subject: Subject) -> None:
    for _ in range(2):
        records = await subject.all_records(**bare(max_tokens=1), echo=True)
        echo = records[0]["prompt"]
        tokens = echo["tokens"]
        assert echo["text"] == TEXT == "".join(token["token"] for token in tokens)
        assert [TEXT.startswith(token["token"], token["offset"]) for token in tokens] == [True] * len(tokens)
        assert tokens[0]["logprob"] is None
        ids = subject.tokenizer.encode_raw(TEXT)
        assert [token["id"] for token in tokens] == ids
        (score,) = await subject.runtime.score(ids[:1], [ids[1:]])
        known = [token["logprob"] for token in tokens[1:]]
        assert known == pytest.approx(score, abs=TOLERANCE[subject.name])
        assert len(rows(records)) == 1


async def test_an_echo_without_an_answer_generates_nothing(subject: Subject) -> None:
    ids = subject.tokenizer.encode_raw(TEXT)
    records = await subject.all_records(
        prompt_ids=ids, echo=True, no_answer=True, sampling=Sampling(logprobs=False)
    )
    assert records[0] == {"prompt": {"text": TEXT, "tokens": None}}
    done = records[1]["done"]
    assert (done["text"], done["finish_reason"]) == ("", "length")
    assert done["usage"] == {"prompt_tokens": len(ids), "completion_tokens": 0}


async def test_a_bare_prompt_goes_on_as_the_library_alone_does(subject: Subject) -> None:
    ids = subject.tokenizer.encode_raw(TEXT)
    for given in ({"prompt": TEXT, "bare": True}, {"prompt_ids": ids}):
        records = await subject.all_records(**given, sampling=GREEDY)
        ended = [END] if records[-1]["done"]["finish_reason"] == "stop" else []
        said = [row["id"] for row in rows(records)] + ended
        assert ended or len(said) == GREEDY.max_tokens
        gaps = direct.gaps(subject.name, subject.folder, ids, said)
        assert max(gaps) <= TOLERANCE[subject.name]


@pytest.mark.parametrize("given", [{"messages": CONVERSATION}, {"prompt": SURE, "bare": True}], ids=list)
async def test_the_prompts_of_comparing_tests_have_answers_that_no_rounding_changes(
    subject: Subject, given: dict[str, Any]
) -> None:
    told = rows(await subject.all_records(**given, sampling=GREEDY))
    # The second best token has at most the rest of the probability: its logit is lower by the log ratio.
    margins = [row["logprob"] - math.log(-math.expm1(row["logprob"]) + 1e-9) for row in told]
    assert min(margins) > 2 * TOLERANCE[subject.name]
    assert len(told) == GREEDY.max_tokens


async def test_bare_messages_get_the_template_and_no_engine(subject: Subject) -> None:
    turns = [Message(role="user", content="Name a colour.")]
    records = await subject.all_records(messages=turns, bare=True, sampling=GREEDY)
    usage = records[-1]["done"]["usage"]
    assert usage["prompt_tokens"] == len(subject.tokenizer.encode_chat(turns))
    assert records[-1]["done"]["findings"] == {}


async def test_rows_and_text_stay_together_through_stop_strings(subject: Subject) -> None:
    asked: dict[str, Any] = {"prompt": SURE, "bare": True}
    plain = rows(await subject.all_records(**asked, sampling=GREEDY))
    text = "".join(row["token"] for row in plain)
    stop = text[5:8]
    records = await subject.all_records(**asked, sampling=GREEDY.model_copy(update={"stop": [stop]}))
    told, cut = rows(records), text.index(stop)
    assert records[-1]["done"]["text"] == text[:cut]
    assert [row["id"] for row in told] == [row["id"] for row in plain if row["offset"] < cut]


async def test_token_ids_outside_the_vocabulary_are_refused(subject: Subject) -> None:
    neighbour = asyncio.create_task(subject.ask("Count to ten.", temperature=0.0, max_tokens=8))
    for wrong in (subject.runtime.vocabulary, -1):
        with pytest.raises(RequestError) as refused:
            await subject.all_records(prompt_ids=[5, wrong], sampling=GREEDY)
        assert (refused.value.status, refused.value.param) == (400, "prompt")
    assert (await neighbour)["text"]


async def test_top_logprobs_are_sorted_and_hold_the_greedy_token_or_are_refused(subject: Subject) -> None:
    if "top_logprobs" in subject.refused.parameters:
        with pytest.raises(RequestError) as refused:
            await subject.all_records(**bare(top_logprobs=3))
        assert (refused.value.status, refused.value.param) == (400, "top_logprobs")
        return
    records = await subject.all_records(**bare(top_logprobs=3), echo=True)
    for row in rows(records):
        values = [other["logprob"] for other in row["top"]]
        assert (len(values), values) == (3, sorted(values, reverse=True))
        assert (row["top"][0]["id"], row["top"][0]["logprob"]) == (row["id"], row["logprob"])
    for token in records[0]["prompt"]["tokens"][1:]:
        assert len(token["top"]) == 3
        assert token["top"][0]["logprob"] >= token["logprob"]


async def test_a_bias_bans_and_forces_tokens_or_is_refused(subject: Subject) -> None:
    (word,) = subject.tokenizer.encode(" five")
    forced = bare(logit_bias={str(word): 100.0}, max_tokens=3)
    if "logit_bias" in subject.refused.parameters:
        with pytest.raises(RequestError) as refused:
            await subject.all_records(**forced)
        assert (refused.value.status, refused.value.param) == (400, "logit_bias")
        return
    assert [row["id"] for row in rows(await subject.all_records(**forced))] == [word] * 3
    plain = rows(await subject.all_records(**bare(max_tokens=6)))
    banned = {str(row["id"]): -100.0 for row in plain}
    other = rows(await subject.all_records(**bare(max_tokens=6, logit_bias=banned)))
    assert not {str(row["id"]) for row in other} & set(banned)
    with pytest.raises(RequestError) as refused:
        await subject.all_records(**bare(logit_bias={str(subject.runtime.vocabulary): 1.0}))
    assert (refused.value.status, refused.value.param) == (400, "logit_bias")


async def test_presence_and_frequency_count_the_answer_and_not_the_prompt(subject: Subject) -> None:
    text = "one two three " * 8 + "one two"
    ids = subject.tokenizer.encode_raw(text)
    for penalty in (None, 2.0):
        penalties = {"presence_penalty": penalty, "frequency_penalty": penalty}
        sampling = GREEDY.model_copy(update={"max_tokens": 1, **penalties})
        (row,) = rows(await subject.all_records(prompt=text, bare=True, sampling=sampling))
        # If the prompt counted, its words, the likeliest token among them, would be lowered by 4 or more.
        assert row["token"] in text
        (gap,) = direct.gaps(subject.name, subject.folder, ids, [row["id"]])
        assert gap <= TOLERANCE[subject.name]


async def test_the_schema_of_any_object_makes_an_object(subject: Subject) -> None:
    answer = await subject.ask(
        "Say it as JSON: the sky is blue.", json_schema={"type": "object"}, max_tokens=40
    )
    assert answer["text"].lstrip().startswith("{")
