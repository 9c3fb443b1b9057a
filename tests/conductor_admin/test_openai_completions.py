"""`/v1/completions` over real sockets and the fake TorchServe."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import MakeRig, Rig
from tests.conductor_admin.openai_calls import CHAT, SMALL, asked, chunks, token

URL = "/v1/completions"
FIM = """# LLM Server Settings
|Category/Area|Best Open Source Model|VRAM/RAM Requirements|Technical Model Name|Stay Loaded|Precision|
|---|---|---|---|---|---|
| Code Completion | Small | ~1GB | `models/small.gguf` | false | Q4_1 |
"""


def body(**fields: Any) -> dict[str, Any]:
    return {"model": SMALL, "prompt": "one", **fields}


async def repeats(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """A worker whose answer is ` two`, with its token rows."""
    if request["echo"]:
        tokens = [token("on", None, 0), token("e", -1.0, 2, ("ly", -0.5))]
        yield {"prompt": {"text": "one", "tokens": tokens if request["sampling"].get("logprobs") else None}}
    if request["no_answer"]:
        yield done("")
        return
    rows = [token(" two", -0.25, 0, (" two", -0.25))]
    told = {"logprobs": rows} if request["sampling"].get("logprobs") else {}
    yield {"delta": " two", **told}
    last = done(" two")
    last["done"] |= told
    yield last


@pytest.mark.parametrize(
    ("prompt", "inputs"),
    [
        ("a", [{"prompt": "a"}]),
        (["a", "b"], [{"prompt": "a"}, {"prompt": "b"}]),
        ([5, 6], [{"prompt_ids": [5, 6]}]),
        ([[5], [6, 7]], [{"prompt_ids": [5]}, {"prompt_ids": [6, 7]}]),
    ],
)
async def test_prompts_of_all_forms_are_continued_as_they_are(
    rig: Rig, prompt: Any, inputs: list[dict[str, Any]]
) -> None:
    answer = (await rig.client.post(URL, json=body(prompt=prompt))).json()
    requests = sorted(rig.torchserve.workers(CHAT)[0].requests, key=lambda request: request["id"])
    given = [{k: r[k] for k in ("prompt", "prompt_ids") if k in r} for r in requests]
    assert given == inputs
    assert all(request["bare"] for request in requests)
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(inputs)))
    assert answer["usage"]["prompt_tokens"] == 5 * len(inputs)
    assert answer["object"] == "text_completion"


async def test_several_prompts_with_several_choices_have_their_places(rig: Rig) -> None:
    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": request["prompt"] * 2}
        yield done(request["prompt"] * 2)

    rig.torchserve.script = script
    fields = body(prompt=["a", "b"], n=2)
    answer = (await rig.client.post(URL, json=fields)).json()
    assert [choice["text"] for choice in answer["choices"]] == ["aa", "aa", "bb", "bb"]
    assert answer["usage"] == {"prompt_tokens": 10, "completion_tokens": 12, "total_tokens": 22}
    options = {"stream_options": {"include_usage": True}, "stream": True}
    *pieces, total, end = chunks((await rig.client.post(URL, json=fields | options)).text)
    texts = {p["choices"][0]["index"]: "" for p in pieces}
    for piece in pieces:
        texts[piece["choices"][0]["index"]] += piece["choices"][0]["text"]
    assert texts == {0: "aa", 1: "aa", 2: "bb", 3: "bb"}
    assert (total["usage"], total["choices"], end) == (answer["usage"], [], "[DONE]")


async def test_the_answer_is_short_unless_told_otherwise_and_an_engine_has_its_own_length(rig: Rig) -> None:
    assert (await asked(rig, URL, body()))["sampling"] == {"max_tokens": 16}
    assert (await asked(rig, URL, body(max_tokens=40)))["sampling"] == {"max_tokens": 40}
    assert (await asked(rig, URL, body(model=CHAT)))["sampling"] == {}


async def test_echo_with_log_probabilities_is_about_prompt_and_answer(rig: Rig) -> None:
    rig.torchserve.script = repeats
    answer = (await rig.client.post(URL, json=body(echo=True, logprobs=1))).json()
    (choice,) = answer["choices"]
    assert choice["text"] == "one two"
    assert choice["logprobs"] == {
        "tokens": ["on", "e", " two"],
        "token_logprobs": [None, -1.0, -0.25],
        "top_logprobs": [None, {"ly": -0.5, "e": -1.0}, {" two": -0.25}],
        "text_offset": [0, 2, 3],
    }
    (request,) = rig.torchserve.workers(CHAT)[0].requests
    assert request["sampling"] == {"max_tokens": 16, "logprobs": True, "top_logprobs": 1}


async def test_a_streamed_echo_adds_up_to_the_whole_one(rig: Rig) -> None:
    rig.torchserve.script = repeats
    fields = body(echo=True, logprobs=1)
    whole = (await rig.client.post(URL, json=fields)).json()["choices"][0]
    *pieces, _ = chunks((await rig.client.post(URL, json={**fields, "stream": True})).text)
    told = [piece["choices"][0] for piece in pieces]
    assert "".join(choice["text"] for choice in told) == whole["text"]
    offsets = [o for c in told if c["logprobs"] for o in c["logprobs"]["text_offset"]]
    assert offsets == whole["logprobs"]["text_offset"]


async def test_a_prompt_may_be_scored_without_an_answer(rig: Rig) -> None:
    rig.torchserve.script = repeats
    answer = (await rig.client.post(URL, json=body(echo=True, logprobs=0, max_tokens=0))).json()
    (choice,) = answer["choices"]
    assert choice["text"] == "one"
    assert choice["logprobs"]["token_logprobs"] == [None, -1.0]
    assert choice["logprobs"]["top_logprobs"] is None


async def test_a_category_too_echoes_its_model(rig: Rig) -> None:
    request = await asked(rig, URL, body(model="translation", echo=True))
    assert (request["bare"], request["echo"]) == (True, True)
    assert request["sampling"] == {"max_tokens": 16}


async def test_suffix_is_what_the_completion_engine_fills_up_to(make_rig: MakeRig) -> None:
    async with make_rig(settings=FIM) as rig:
        request = await asked(rig, URL, {"model": "code_completion", "prompt": "def f(", "suffix": "): pass"})
        assert request["options"] == {"prefix": "def f(", "suffix": "): pass"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"model": CHAT, "suffix": "x"}, "suffix"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"session": True}, "session_id"),
    ],
)
async def test_what_cannot_be_completed_is_refused_by_name(
    rig: Rig, fields: dict[str, Any], param: str
) -> None:
    response = await rig.client.post(URL, json=body(**fields))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert not rig.torchserve.registered


async def test_top_logprobs_that_a_runtime_has_not_are_refused_as_logprobs(rig: Rig) -> None:
    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"error": {"message": "no", "status": 400, "param": "top_logprobs"}}

    rig.torchserve.script = script
    response = await rig.client.post(URL, json=body(logprobs=1))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "logprobs")
