"""`/v1/chat/completions` over real sockets and the fake TorchServe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import SETTINGS, MakeRig, Rig
from tests.conductor_admin.openai_calls import CHAT, SMALL, asked, chat, chunks, says, token

URL = "/v1/chat/completions"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


async def test_an_answer_has_openais_form_and_says_who_answered(rig: Rig) -> None:
    response = await rig.client.post(URL, json=chat(), headers={"x-request-id": "mine"})
    body = response.json()
    assert body.pop("created") > 1_700_000_000
    assert body.pop("system_fingerprint").startswith("fp_")
    message = {"role": "assistant", "content": "one two three", "refusal": None}
    assert body == {
        "id": "chatcmpl-mine",
        "object": "chat.completion",
        "model": CHAT,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
        "conductor": {
            "category": CHAT,
            "findings": {},
            "timings": {"first_token_s": 0.01, "total_s": 0.02},
            "session_id": None,
        },
    }
    assert response.headers["x-conductor-category"] == CHAT
    assert response.headers["x-conductor-model"] == SMALL
    assert "x-conductor-ignored" not in response.headers


async def test_a_stream_is_role_text_reason_usage_and_done(rig: Rig) -> None:
    rig.torchserve.script = says("one", " two", findings={"checked": True})
    body = chat(stream=True, stream_options={"include_usage": True})
    response = await rig.client.post(URL, json=body)
    *pieces, total, end = chunks(response.text)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert end == "[DONE]"
    assert [piece["choices"][0]["delta"] for piece in pieces] == [
        {"role": "assistant", "content": ""},
        {"content": "one"},
        {"content": " two"},
        {},
    ]
    assert [piece["choices"][0]["finish_reason"] for piece in pieces] == [None, None, None, "stop"]
    assert {piece["id"] for piece in [*pieces, total]} == {pieces[0]["id"]}
    assert {piece["object"] for piece in pieces} == {"chat.completion.chunk"}
    assert all(piece["usage"] is None for piece in pieces)
    assert pieces[-1]["conductor"]["findings"] == {"checked": True}
    assert not any("conductor" in piece for piece in pieces[:-1])
    assert total["choices"] == []
    assert total["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


async def test_usage_is_told_only_where_it_was_asked_for(rig: Rig) -> None:
    response = await rig.client.post(URL, json=chat(stream=True))
    assert not any("usage" in piece for piece in chunks(response.text)[:-1])


@pytest.mark.parametrize(
    ("fields", "wire"),
    [
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 7, "max_completion_tokens": 9}, {"max_tokens": 9}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"stop": ["x", "y"]}, {"stop": ["x", "y"]}),
        ({"stop": None, "temperature": None, "n": None}, {}),
        ({"seed": 3, "temperature": 0, "top_p": 0.5}, {"seed": 3, "temperature": 0.0, "top_p": 0.5}),
        (
            {"presence_penalty": 1, "frequency_penalty": -1},
            {"presence_penalty": 1.0, "frequency_penalty": -1.0},
        ),
        ({"logit_bias": {"5": -100}}, {"logit_bias": {"5": -100.0}}),
        ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"top_k": 4, "repetition_penalty": 1.1}, {"top_k": 4, "repetition_penalty": 1.1}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"json_schema": {"type": "object"}}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "strict": True, "schema": SCHEMA},
                }
            },
            {"json_schema": SCHEMA},
        ),
    ],
)
async def test_decoding_fields_reach_the_worker(
    rig: Rig, fields: dict[str, Any], wire: dict[str, Any]
) -> None:
    request = await asked(rig, URL, chat(**fields))
    assert request["sampling"] == wire


async def test_roles_and_parts_become_turns(rig: Rig) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": "be short"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "content": "old", "function_call": {"name": "g", "arguments": "{}"}},
        {"role": "function", "name": "g", "content": "43"},
        {"role": "user", "name": "ann", "content": "so?"},
    ]
    request = await asked(rig, URL, chat(messages=messages))
    assert request["messages"] == [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "a\nb"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "name": "f", "arguments": "{}"}],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {
            "role": "assistant",
            "content": "old",
            "tool_calls": [{"id": "g", "name": "g", "arguments": "{}"}],
        },
        {"role": "tool", "content": "43", "name": "g"},
        {"role": "user", "content": "so?", "name": "ann"},
    ]


async def test_a_category_has_its_engine_and_a_technical_name_is_the_model_alone(rig: Rig) -> None:
    engine = await asked(rig, URL, chat(model="Translation", options={"target": "fr"}, persona="pirate"))
    bare = await asked(rig, URL, chat(model="models/other.gguf"))
    assert (engine["engine"], engine["bare"], engine["system"]) == (
        "translation",
        False,
        "You are a pirate.",
    )
    assert engine["options"] == {"target": "fr"}
    assert engine["sampling"] == {"temperature": 0.0, "max_tokens": 77}
    assert (bare["bare"], bare["sampling"], bare["options"]) == (True, {}, {})
    assert "system" not in bare


async def test_auto_answers_and_says_why(rig: Rig) -> None:
    response = await rig.client.post(URL, json=chat(model="auto"))
    assert response.json()["model"] == response.headers["x-conductor-category"] == CHAT
    assert response.headers["x-conductor-reason"].startswith("default: ")
    turn = {"role": "user", "content": "Translate into French: good morning"}
    response = await rig.client.post(URL, json=chat(model="auto", messages=[turn]))
    assert response.json()["model"] == response.headers["x-conductor-category"] == "translation"
    assert response.headers["x-conductor-reason"].startswith("rule: ")


async def test_auto_by_meaning_asks_the_embedding_row(make_rig: MakeRig) -> None:
    row = "| Embedding | Vectors | ~1GB | `models/vectors` | false | FP32 |"
    settings = SETTINGS.replace("\n\n## Engine", f"\n{row}\n\n## Engine")

    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        last = done("")
        if request["engine"] == "embedding":
            last["done"]["findings"] = {"embeddings": [[1.0, 0.0] for _ in request["options"]["inputs"]]}
        yield last

    async with make_rig(settings=settings) as rig:
        rig.torchserve.script = script
        response = await rig.client.post(URL, json=chat(model="auto"))
        assert response.headers["x-conductor-category"] == CHAT
        assert "too close" in response.headers["x-conductor-reason"]
        assert rig.torchserve.workers("embedding")[0].requests


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"model": "conversational_chta"}, 404, "model_not_found", "model"),
        ({"model": None}, 400, "invalid_value", "model"),
        ({"messages": []}, 400, "invalid_value", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_value", "messages.0.role"),
        ({"messages": [{"role": "user"}]}, 400, "invalid_value", "messages.0.content"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            400,
            "invalid_value",
            "messages.0.tool_call_id",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            400,
            "invalid_value",
            "messages.0.content.0.type",
        ),
        ({"n": 9}, 400, "invalid_value", "n"),
        ({"n": 0}, 400, "invalid_value", "n"),
        ({"temperature": 3}, 400, "invalid_value", "temperature"),
        ({"temperature": "0.5"}, 400, "invalid_value", "temperature"),
        ({"stop": ["a"] * 17}, 400, "invalid_value", "stop"),
        ({"stop": 5}, 400, "invalid_value", "stop"),
        ({"max_tokens": 0}, 400, "invalid_value", "max_tokens"),
        ({"top_logprobs": 2}, 400, "invalid_value", "top_logprobs"),
        ({"functions": [{"name": "f"}]}, 400, "unsupported_parameter", "functions"),
        ({"modalities": ["audio"]}, 400, "unsupported_parameter", "modalities"),
        ({"reasoning_effort": "high"}, 400, "unsupported_parameter", "reasoning_effort"),
        ({"persona": "nobody"}, 404, "persona_not_found", "persona"),
        ({"model": SMALL, "persona": "pirate"}, 400, "invalid_value", "persona"),
        ({"model": SMALL, "options": {"a": 1}}, 400, "invalid_value", "options"),
        ({"n": 2, "session": True}, 400, "invalid_value", "n"),
        ({"response_format": {"type": "xml"}}, 400, "invalid_value", "response_format.type"),
        (
            {"response_format": {"type": "json_schema"}},
            400,
            "invalid_value",
            "response_format.json_schema",
        ),
    ],
)
async def test_what_cannot_be_served_is_refused_by_name_before_a_load(
    rig: Rig, fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    response = await rig.client.post(URL, json=chat(**fields))
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    assert error.keys() == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"]
    assert not rig.torchserve.registered


async def test_a_model_that_is_misspelt_is_told_close_names(rig: Rig) -> None:
    response = await rig.client.post(URL, json=chat(model="models/smal.gguf"))
    assert SMALL in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 400), (b'{"model": "x", "model": "y"}', 400)]
)
async def test_what_is_no_json_object_is_400(rig: Rig, body: bytes, status: int) -> None:
    response = await rig.client.post(URL, content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (status, "invalid_json")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", URL, 405), ("POST", "/v1/nothing", 404)])
async def test_other_routes_and_methods_are_refused_in_the_same_form(
    rig: Rig, method: str, path: str, status: int
) -> None:
    response = await rig.client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert response.headers["x-request-id"]


async def test_harmless_fields_are_taken_and_unknown_ones_named(rig: Rig) -> None:
    known = {"user": "u", "metadata": {}, "store": True, "service_tier": "auto", "modalities": ["text"]}
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = chat(**known, ignore_eos=True, **{"a\r\nb": 1}, stream=True, stream_options=options)
    response = await rig.client.post(URL, json=body)
    assert response.status_code == 200
    assert response.headers["x-conductor-ignored"] == (
        "a??b, ignore_eos, stream_options.continuous_usage_stats"
    )


async def test_choices_differ_in_seed_and_share_their_prompt(rig: Rig) -> None:
    response = await rig.client.post(URL, json=chat(n=3, seed=2**32 - 1))
    body = response.json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}
    assert len(body["conductor"]["choices"]) == 3
    requests = rig.torchserve.workers(CHAT)[0].requests
    assert sorted(request["sampling"]["seed"] for request in requests) == [0, 1, 2**32 - 1]
    assert len({request["id"] for request in requests}) == 3


async def test_choices_are_streamed_with_their_indices(rig: Rig) -> None:
    body = chat(n=2, stream=True, stream_options={"include_usage": True})
    *pieces, total, _ = chunks((await rig.client.post(URL, json=body)).text)
    for index in (0, 1):
        own = [p["choices"][0] for p in pieces if p["choices"][0]["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert "".join(choice["delta"].get("content", "") for choice in own) == "one two three"
        assert own[-1]["finish_reason"] == "stop"
    assert total["usage"]["completion_tokens"] == 6


async def test_log_probabilities_are_told_with_their_alternatives(rig: Rig) -> None:
    row = token("one", -0.5, 0, ("un", -0.25))

    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": "one", "logprobs": [row]}
        last = done("one")
        last["done"]["logprobs"] = [row]
        yield last

    rig.torchserve.script = script
    fields = {"logprobs": True, "top_logprobs": 1}
    expected = {
        "token": "one",
        "logprob": -0.5,
        "bytes": [111, 110, 101],
        "top_logprobs": [{"token": "un", "logprob": -0.25, "bytes": [117, 110]}],
    }
    whole = (await rig.client.post(URL, json=chat(**fields))).json()
    assert whole["choices"][0]["logprobs"] == {"content": [expected], "refusal": None}
    streamed = chunks((await rig.client.post(URL, json=chat(**fields, stream=True))).text)
    told = [p["choices"][0]["logprobs"] for p in streamed[:-1]]
    assert [value["content"] for value in told if value] == [[expected]]


async def test_length_is_told(rig: Rig) -> None:
    rig.torchserve.script = says("cut", finish_reason="length")
    body = (await rig.client.post(URL, json=chat())).json()
    assert body["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_parameter_that_the_runtime_refuses_is_named_as_the_client_calls_it(
    rig: Rig, stream: bool
) -> None:
    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"error": {"message": "no such schema", "status": 400, "param": "json_schema", "code": "c"}}

    rig.torchserve.script = script
    body = chat(stream=stream, response_format={"type": "json_object"})
    response = await rig.client.post(URL, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "response_format"


async def test_a_failure_in_the_middle_is_an_error_and_no_done(rig: Rig) -> None:
    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": "one"}
        yield {"error": {"message": "broken", "status": 500, "type": "server_error", "code": "broken"}}

    rig.torchserve.script = script
    response = await rig.client.post(URL, json=chat(stream=True))
    *_, last = chunks(response.text)
    assert last == {"error": {"message": "broken", "type": "server_error", "param": None, "code": "broken"}}
    assert "[DONE]" not in response.text


async def test_a_useless_retry_is_told_so(rig: Rig) -> None:
    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"error": {"message": "broken", "status": 500}}

    rig.torchserve.script = script
    response = await rig.client.post(URL, json=chat())
    assert response.headers["x-should-retry"] == "false"
    assert "retry-after" not in response.headers


async def test_a_load_that_takes_too_long_is_503_with_a_time_to_come_back(make_rig: MakeRig) -> None:
    async with make_rig() as rig:
        rig.torchserve.may_load.clear()
        response = await rig.client.post(URL, json=chat(max_wait_s=0.05))
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "model_loading"
        assert int(response.headers["retry-after"]) > 0
        assert "x-should-retry" not in response.headers
        rig.torchserve.may_load.set()


async def test_comments_tell_of_a_load_while_a_stream_waits(rig: Rig) -> None:
    rig.builder.may_build.clear()
    async with rig.client.stream("POST", URL, json=chat(stream=True)) as response:
        lines = response.aiter_lines()
        assert (await anext(lines)).startswith(": loading conversational_chat")
        rig.builder.may_build.set()
        rest = [line async for line in lines]
    assert rest[-2] == "data: [DONE]"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_all_choices(rig: Rig, stream: bool) -> None:
    ends: list[int] = []
    all_begun = asyncio.Event()
    begun: list[str] = []

    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        begun.append(request["id"])
        if len(begun) == 3:
            all_begun.set()
        try:
            while True:
                yield {"delta": "on and on "}
                await asyncio.sleep(0.005)
        finally:
            ends.append(1)

    rig.torchserve.script = script
    request = asyncio.create_task(rig.client.post(URL, json=chat(n=3, stream=stream)))
    await asyncio.wait_for(all_begun.wait(), 5)
    request.cancel()
    await rig.until(lambda: len(ends) == 3)
    await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 0)


async def test_one_choice_that_fails_ends_the_others(rig: Rig) -> None:
    ends: list[int] = []

    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        if request["id"].endswith("-1"):
            yield {"error": {"message": "broken", "status": 500}}
            return
        try:
            while True:
                yield {"delta": "on "}
                await asyncio.sleep(0.005)
        finally:
            ends.append(1)

    rig.torchserve.script = script
    response = await rig.client.post(URL, json=chat(n=2))
    assert response.status_code == 500
    await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 0)


async def test_only_a_whole_answer_may_be_tried_again(rig: Rig) -> None:
    assert (await asked(rig, URL, chat()))["attempts"] == 2
    assert (await asked(rig, URL, chat(stream=True)))["attempts"] == 1


async def test_a_session_goes_on_over_several_requests(rig: Rig) -> None:
    first = await rig.client.post(URL, json=chat(session=True))
    session = first.json()["conductor"]["session_id"]
    assert first.headers["x-conductor-session"] == session
    request = await asked(rig, URL, chat(session_id=session))
    assert [turn["role"] for turn in request["messages"]] == ["user", "assistant", "user"]
