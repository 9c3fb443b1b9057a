"""Tools: their form for the model, the schema that enforces calls, and calls in answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conductor_admin.api.openai.tools import MAX_CALLS, ChosenTool, Function, offer
from handlers.wire import RequestError
from tests.conductor_admin.gateway_rig import Rig
from tests.conductor_admin.openai_calls import CLOCK, WEATHER, asked, chat, chunks, says

URL = "/v1/chat/completions"
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
TWO = f'{CALL}\n<tool_call>\n{{"name": "clock", "arguments": {{}}}}\n</tool_call>'


async def test_the_model_is_told_of_the_tools_and_its_text_is_free(rig: Rig) -> None:
    request = await asked(rig, URL, chat(tools=[WEATHER, CLOCK]))
    assert [tool["function"]["name"] for tool in request["tools"]] == ["weather", "clock"]
    assert request["tools"][0] == WEATHER
    assert "json_schema" not in request["sampling"]


async def test_no_tools_are_told_where_none_may_be_called(rig: Rig) -> None:
    rig.torchserve.script = says(CALL)
    body = chat(tools=[WEATHER], tool_choice="none")
    assert "tools" not in await asked(rig, URL, body)
    answer = (await rig.client.post(URL, json=body)).json()["choices"][0]
    assert (answer["message"]["content"], answer["finish_reason"]) == (CALL, "stop")


async def test_calls_come_back_whole(rig: Rig) -> None:
    rig.torchserve.script = says("Let me see. ", TWO)
    choice = (await rig.client.post(URL, json=chat(tools=[WEATHER, CLOCK]))).json()["choices"][0]
    message = choice["message"]
    assert choice["finish_reason"] == "tool_calls"
    assert message["content"].strip() == "Let me see."
    functions = [call["function"] for call in message["tool_calls"]]
    assert [call["name"] for call in functions] == ["weather", "clock"]
    assert json.loads(functions[0]["arguments"]) == {"city": "Rome"}
    assert len({call["id"] for call in message["tool_calls"]}) == 2
    assert {call["type"] for call in message["tool_calls"]} == {"function"}


async def test_calls_alone_have_no_content(rig: Rig) -> None:
    rig.torchserve.script = says(CALL)
    choice = (await rig.client.post(URL, json=chat(tools=[WEATHER]))).json()["choices"][0]
    assert choice["message"]["content"] is None


async def test_parallel_calls_may_be_forbidden(rig: Rig) -> None:
    rig.torchserve.script = says(TWO)
    body = chat(tools=[WEATHER, CLOCK], parallel_tool_calls=False)
    choice = (await rig.client.post(URL, json=body)).json()["choices"][0]
    assert len(choice["message"]["tool_calls"]) == 1
    *pieces, _ = chunks((await rig.client.post(URL, json={**body, "stream": True})).text)
    assert {c["index"] for p in pieces for c in p["choices"][0]["delta"].get("tool_calls", [])} == {0}


async def test_arguments_are_streamed_as_they_are_written(rig: Rig) -> None:
    rig.torchserve.script = says(*TWO)
    *pieces, _ = chunks((await rig.client.post(URL, json=chat(tools=[WEATHER, CLOCK], stream=True))).text)
    deltas = [piece["choices"][0]["delta"] for piece in pieces]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    starts = [call for call in calls if "id" in call]
    assert [(call["index"], call["function"]["name"]) for call in starts] == [(0, "weather"), (1, "clock")]
    first = [call["function"]["arguments"] for call in calls if call["index"] == 0]
    assert json.loads("".join(first)) == {"city": "Rome"}
    assert len(first) > 5
    assert pieces[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert not any(delta.get("content") for delta in deltas)


async def test_a_required_call_is_held_to_the_tools(rig: Rig) -> None:
    request = await asked(rig, URL, chat(tools=[WEATHER, CLOCK], tool_choice="required"))
    schema = request["sampling"]["json_schema"]
    assert (schema["type"], schema["minItems"], schema["maxItems"]) == ("array", 1, MAX_CALLS)
    weather, clock = schema["items"]["anyOf"]
    assert list(weather["properties"]) == ["name", "arguments"]
    assert weather["properties"]["name"] == {"const": "weather"}
    place = weather["properties"]["arguments"]["properties"]["city"]["$ref"]
    assert schema["$defs"][place.removeprefix("#/$defs/")] == {"type": "string"}
    assert clock["properties"]["arguments"] == {"type": "object", "properties": {}}


async def test_a_named_call_is_held_to_its_tool(rig: Rig) -> None:
    rig.torchserve.script = says('{"name": "clock", "arguments": {}}')
    body = chat(tools=[WEATHER, CLOCK], tool_choice={"type": "function", "function": {"name": "clock"}})
    request = await asked(rig, URL, body)
    assert request["sampling"]["json_schema"]["properties"]["name"] == {"const": "clock"}
    choice = (await rig.client.post(URL, json=body)).json()["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "clock", "arguments": "{}"}
    assert choice["finish_reason"] == "tool_calls"


async def test_a_list_of_calls_as_a_schema_makes_it_is_found(rig: Rig) -> None:
    one = '{"name": "weather", "arguments": {"city": "Rome"}}'
    rig.torchserve.script = says(f"[{one}, {one}]")
    body = chat(tools=[WEATHER], tool_choice="required")
    choice = (await rig.client.post(URL, json=body)).json()["choices"][0]
    assert len(choice["message"]["tool_calls"]) == 2


async def test_an_answer_of_a_form_may_still_call_a_tool(rig: Rig) -> None:
    answer = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "null"}}}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": answer}}
    request = await asked(rig, URL, chat(tools=[WEATHER], response_format=form))
    first, calls = request["sampling"]["json_schema"]["anyOf"]
    assert calls["items"]["properties"]["name"] == {"const": "weather"}
    place = first["properties"]["a"]["$ref"].removeprefix("#/$defs/")
    assert request["sampling"]["json_schema"]["$defs"][place] == {"type": "null"}


async def test_an_answer_of_a_form_is_no_call(rig: Rig) -> None:
    rig.torchserve.script = says('{"a": null}')
    body = chat(tools=[WEATHER], response_format={"type": "json_object"})
    choice = (await rig.client.post(URL, json=body)).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ('{"a": null}', "stop")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            "tool_choice",
        ),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
    ],
)
async def test_what_tools_do_not_allow_is_refused_by_name(
    rig: Rig, fields: dict[str, Any], param: str
) -> None:
    response = await rig.client.post(URL, json=chat(**fields))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_parameters_may_refer_to_their_own_definitions_only() -> None:
    outside = Function(name="f", parameters={"properties": {"a": {"$ref": "https://example.org/s"}}})
    with pytest.raises(RequestError, match="its own"):
        offer([outside], ChosenTool("required"), None).schema(None)
