"""Tools over HTTP, in both protocol eras, on a gateway with a fake worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anyio
import pytest
from mcp import MCPError
from mcp_types import TextContent

from conductor_admin.http.protocol import BoundedProtocol
from conductor_admin.workers import client as worker_client
from conductor_admin.workers import liveness
from tests.conductor_admin.fake_torchserve import FakeWorker, done
from tests.conductor_mcp.conftest import McpRig

ENGINE_TOOLS = {"translate", "review_contract"}
ADMIN_TOOLS = {"load_model", "unload_model", "plan_settings"}


def text_of(result: Any) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


def worker_of(mcp_rig: McpRig, name: str = "conversational_chat") -> FakeWorker:
    (worker,) = mcp_rig.rig.torchserve.workers(name)
    return worker


async def test_a_generation_has_text_and_structured_output(mcp_rig: McpRig) -> None:
    async with mcp_rig.client() as client:
        result = await client.call_tool("generate_text", {"prompt": "Hello world"})
    assert not result.is_error
    assert result.structured_content is not None
    assert result.structured_content["text"] == "one two three"
    assert result.structured_content["category"] == "conversational_chat"
    assert result.structured_content["usage"]["total_tokens"] == 8


async def test_an_engine_has_a_tool_where_a_row_uses_it(mcp_rig: McpRig) -> None:
    async with mcp_rig.client() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert tools.keys() == {"generate_text", "list_models", "server_stats"} | ENGINE_TOOLS | ADMIN_TOOLS
    schema = tools["translate"].input_schema
    assert schema["required"] == ["text", "target"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["register"]["anyOf"][0]["enum"] == ["formal", "informal"]
    assert all(tool.output_schema for tool in tools.values())
    assert all(field.get("description") for field in schema["properties"].values())


async def test_annotations_say_what_a_tool_may_do(mcp_rig: McpRig) -> None:
    async with mcp_rig.client() as client:
        hints = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
    assert all(hint and hint.open_world_hint is False for hint in hints.values())
    assert {name for name, hint in hints.items() if hint and hint.destructive_hint} == {"unload_model"}
    assert {name for name, hint in hints.items() if hint and not hint.read_only_hint} == {
        "load_model",
        "unload_model",
    }


async def test_arguments_of_an_engine_reach_its_worker_as_options(mcp_rig: McpRig) -> None:
    arguments = {"text": "Hello", "target": "German", "register": "formal", "max_tokens": 5}
    async with mcp_rig.client() as client:
        result = await client.call_tool("translate", arguments)
    assert result.structured_content is not None
    assert result.structured_content["category"] == "translation"
    (asked,) = worker_of(mcp_rig, "translation").requests
    assert asked["engine"] == "translation"
    assert asked["prompt"] == "Hello"
    assert asked["options"] == {"target": "German", "register": "formal"}
    assert asked["sampling"]["max_tokens"] == 5


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("translate", {"text": "Hello"}, "target: Field required (invalid_value)"),
        ("translate", {"text": "x", "target": "German", "tone": "x"}, "unknown field 'tone' (unknown_field)"),
        ("generate_text", {}, "give either prompt or messages, not both (invalid_value)"),
        ("generate_text", {"prompt": "x", "category": "translaton"}, "did you mean translation?"),
        ("generate_text", {"prompt": "x", "temperature": 9}, "temperature: "),
        ("generate_text", {"prompt": "x", "session_id": "none"}, "(session_not_found)"),
        ("load_model", {"category": "none"}, "(model_not_found)"),
        ("plan_settings", {"settings": "# nothing"}, "(invalid_settings)"),
    ],
)
async def test_a_refusal_names_what_is_wrong(
    mcp_rig: McpRig, tool: str, arguments: dict[str, Any], said: str
) -> None:
    async with mcp_rig.client() as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert said in text_of(result)


async def test_an_unknown_tool_is_the_protocols_error(mcp_rig: McpRig) -> None:
    async with mcp_rig.client() as client:
        with pytest.raises(MCPError, match="no tool 'nope'; tools/list lists them") as refusal:
            await client.call_tool("nope", {})
    assert refusal.value.error.code == -32602


async def test_models_are_loaded_and_let_go(mcp_rig: McpRig) -> None:
    async with mcp_rig.client() as client:
        loaded = await client.call_tool("load_model", {"category": "translation"})
        listed = await client.call_tool("list_models", {})
        ended = await client.call_tool("unload_model", {"category": "translation"})
        figures = await client.call_tool("server_stats", {})
    assert loaded.structured_content is not None
    assert loaded.structured_content["state"] == "READY"
    assert listed.structured_content is not None
    assert len(listed.structured_content["models"]) == 3
    assert ended.structured_content is not None
    assert ended.structured_content["state"] == "UNAVAILABLE"
    assert figures.structured_content is not None
    assert figures.structured_content["memory"]["used"] == 0
    lines = [json.loads(line) for line in mcp_rig.rig.state.audit_file.read_text().splitlines()]
    assert [(line["action"], line["result"]) for line in lines] == [
        ("tool load_model", "begun"),
        ("tool load_model", 200),
        ("tool unload_model", "begun"),
        ("tool unload_model", 200),
    ]


async def test_a_tool_that_cannot_be_recorded_does_nothing(mcp_rig: McpRig) -> None:
    mcp_rig.rig.state.audit_file.mkdir()
    async with mcp_rig.client() as client:
        loaded = await client.call_tool("load_model", {"category": "translation"})
        planned = await client.call_tool("plan_settings", {})
    assert loaded.is_error
    assert "insufficient_storage" in text_of(loaded)
    assert not mcp_rig.rig.torchserve.registered
    assert not planned.is_error, "a look changes nothing"


async def test_progress_grows_and_spells_the_answer(mcp_rig: McpRig) -> None:
    told: list[tuple[float, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async with mcp_rig.client() as client:
        await client.call_tool("generate_text", {"prompt": "x"}, progress_callback=hear)
    values = [value for value, _ in told]
    assert values == sorted(set(values))
    assert "".join(message or "" for value, message in told).endswith("one two three")
    assert worker_of(mcp_rig).requests[0]["attempts"] == 1, "what was told cannot be taken back"


async def test_progress_tells_how_far_the_model_is_loaded(mcp_rig: McpRig) -> None:
    loading = asyncio.Event()

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        if message and message.startswith("loading translation 41%"):
            loading.set()

    mcp_rig.rig.builder.may_build.clear()
    asked = {"text": "x", "target": "fr"}
    async with mcp_rig.client() as client, asyncio.timeout(10), asyncio.TaskGroup() as group:
        call = group.create_task(client.call_tool("translate", asked, progress_callback=hear))
        await loading.wait()
        mcp_rig.rig.builder.may_build.set()
        assert not (await call).is_error


async def endless(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield {"delta": "one"}
    await asyncio.Event().wait()
    yield done("one")


async def test_a_cancelled_call_stops_its_generation(mcp_rig: McpRig) -> None:
    mcp_rig.rig.torchserve.script = endless
    begun = asyncio.Event()

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        if message == "one":
            begun.set()

    async with mcp_rig.client() as client, asyncio.timeout(10):
        async with anyio.create_task_group() as group:

            async def call() -> None:
                await client.call_tool("generate_text", {"prompt": "x"}, progress_callback=hear)

            group.start_soon(call)
            await begun.wait()
            group.cancel_scope.cancel()
        await worker_of(mcp_rig).left.wait()
        assert (await client.call_tool("list_models", {})).is_error is False


async def test_a_client_that_is_gone_stops_its_generation(mcp_rig: McpRig) -> None:
    """The client leaves without a message, like a killed one."""
    mcp_rig.rig.torchserve.script = endless
    call = {"name": "generate_text", "arguments": {"prompt": "x"}, "_meta": {"progressToken": 1}}
    async with asyncio.timeout(10):
        async with mcp_rig.posted("tools/call", call) as lines:
            async for line in lines:
                if '"message":"one"' in line:
                    break
        await worker_of(mcp_rig).left.wait()


async def test_a_client_that_reads_no_progress_is_cut(
    mcp_rig: McpRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unread progress stops the worker, and does not fill the gateway's memory."""
    monkeypatch.setattr(BoundedProtocol, "send_s", 0.5)
    written = 0

    async def flood(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        nonlocal written
        for _ in range(10_000):
            yield {"delta": "x" * 10_000}
            written += 10_000
            await asyncio.sleep(0)
        yield done("x")

    mcp_rig.rig.torchserve.script = flood
    call = {"name": "generate_text", "arguments": {"prompt": "x"}, "_meta": {"progressToken": 1}}
    async with asyncio.timeout(20), mcp_rig.posted("tools/call", call):
        await mcp_rig.rig.until(lambda: written > 0)
        await worker_of(mcp_rig).left.wait()
    assert written < 50_000_000


async def test_a_tool_whose_worker_hangs_is_told_so_when_it_is_ended(
    mcp_rig: McpRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_client, "_HEALTH_TIMEOUT", aiohttp.ClientTimeout(total=0.3))
    monkeypatch.setattr(liveness, "LEAST_APART_S", 0.0)
    lifecycle = mcp_rig.rig.lifecycle
    async with mcp_rig.client() as client:
        await client.call_tool("generate_text", {"prompt": "x"})
        (worker,) = mcp_rig.rig.torchserve.workers("conversational_chat")
        worker.hang()
        call = asyncio.create_task(client.call_tool("generate_text", {"prompt": "x"}))
        await mcp_rig.rig.until(lambda: lifecycle.view("conversational_chat").in_flight == 1)
        for _ in range(liveness.STOPPED_LOOKS):
            await lifecycle.refresh()
        result = await call
        assert result.is_error
        assert "the worker stopped answering; it is being replaced" in text_of(result)
        assert not (await client.call_tool("generate_text", {"prompt": "x"})).is_error
