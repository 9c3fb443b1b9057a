"""`/v1/responses` over real sockets and the fake TorchServe."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conductor_admin.gateway_rig import Rig
from tests.conductor_admin.openai_calls import CHAT, asked, chunks, says

URL = "/v1/responses"
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'


def body(**fields: Any) -> dict[str, Any]:
    return {"model": CHAT, "input": "count", **fields}


async def test_an_answer_is_one_message_of_one_text(rig: Rig) -> None:
    answer = (await rig.client.post(URL, json=body(max_output_tokens=9, temperature=0))).json()
    (item,) = answer["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert [(part["type"], part["text"]) for part in item["content"]] == [("output_text", "one two three")]
    assert (answer["object"], answer["status"], answer["store"]) == ("response", "completed", False)
    assert answer["usage"]["input_tokens"] == 5
    assert answer["usage"]["output_tokens"] == 3
    (request,) = rig.torchserve.workers(CHAT)[0].requests
    assert request["sampling"] == {"max_tokens": 9, "temperature": 0.0}


async def test_items_become_turns(rig: Rig) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "reasoning", "id": "r", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "42"},
    ]
    request = await asked(rig, URL, body(input=items, instructions="be short"))
    assert request["messages"] == [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": "b",
            "tool_calls": [{"id": "c", "name": "f", "arguments": "{}"}],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c"},
    ]


async def test_the_text_may_be_held_to_a_schema(rig: Rig) -> None:
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    request = await asked(rig, URL, body(text={"format": form}))
    assert request["sampling"] == {"json_schema": {"type": "object"}}


async def test_a_stream_builds_the_answer_event_by_event(rig: Rig) -> None:
    response = await rig.client.post(URL, json=body(stream=True))
    events = chunks(response.text)
    names = [line[7:] for line in response.text.splitlines() if line.startswith("event: ")]
    assert names == [event["type"] for event in events]
    assert names == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "one two three"
    assert events[-1]["response"]["conductor"]["category"] == CHAT


async def test_calls_are_items_whose_arguments_are_streamed(rig: Rig) -> None:
    rig.torchserve.script = says("Wait. ", CALL)
    whole = (await rig.client.post(URL, json=body(tools=[TOOL]))).json()
    assert [item["type"] for item in whole["output"]] == ["message", "function_call"]
    assert json.loads(whole["output"][1]["arguments"]) == {"city": "Rome"}
    events = chunks((await rig.client.post(URL, json=body(tools=[TOOL], stream=True))).text)
    written = [e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta"]
    assert json.loads("".join(written)) == {"city": "Rome"}
    done = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert [item["status"] for item in done] == ["completed", "completed"]


async def test_a_cut_answer_is_incomplete(rig: Rig) -> None:
    rig.torchserve.script = says("cut", finish_reason="length")
    answer = (await rig.client.post(URL, json=body())).json()
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    events = chunks((await rig.client.post(URL, json=body(stream=True))).text)
    assert events[-1]["type"] == "response.incomplete"


async def test_a_failure_in_the_middle_is_an_error_event(rig: Rig) -> None:
    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": "one"}
        yield {"error": {"message": "broken", "status": 500, "code": "broken"}}

    rig.torchserve.script = script
    last = chunks((await rig.client.post(URL, json=body(stream=True))).text)[-1]
    assert (last["type"], last["code"], last["message"]) == ("error", "broken", "broken")


async def test_nothing_is_stored_and_that_is_said(rig: Rig) -> None:
    response = await rig.client.post(URL, json=body(store=True, include=[]))
    assert response.headers["x-conductor-ignored"] == "include, store"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"n": 2}, "n"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0.call_id"),
        ({"input": [{"role": "system", "content": "x"}]}, "input"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": 1}}}, "text.format.schema"),
    ],
)
async def test_what_a_stateless_answer_cannot_be_is_refused_by_name(
    rig: Rig, fields: dict[str, Any], param: str
) -> None:
    response = await rig.client.post(URL, json=body(**fields))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert not rig.torchserve.registered
