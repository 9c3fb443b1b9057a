"""Resources, prompts and completion, in both protocol eras."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp import MCPError
from mcp_types import PromptReference, ResourceTemplateReference, TextContent, TextResourceContents

from handlers.engines.registry import engine_names
from tests.conductor_mcp.conftest import McpRig


def text_of(result: Any) -> str:
    (content,) = result.contents
    assert isinstance(content, TextResourceContents)
    return content.text


async def test_resources_are_models_settings_and_conversations(mcp_rig: McpRig) -> None:
    asked = {"prompt": "Hi", "session": True}
    async with mcp_rig.client() as client:
        said = await client.call_tool("generate_text", asked)
        listed = {one.uri for one in (await client.list_resources()).resources}
        templates = {one.uri_template for one in (await client.list_resource_templates()).resource_templates}
        models = json.loads(text_of(await client.read_resource("conductor://models")))
        model = json.loads(text_of(await client.read_resource("conductor://models/translation")))
        settings = text_of(await client.read_resource("conductor://settings"))
        sessions = json.loads(text_of(await client.read_resource("conductor://sessions")))
        assert said.structured_content is not None
        session_id = said.structured_content["session_id"]
        session = json.loads(text_of(await client.read_resource(f"conductor://sessions/{session_id}")))
    assert listed == {"conductor://models", "conductor://settings", "conductor://sessions"}
    assert templates == {"conductor://models/{category}", "conductor://sessions/{session_id}"}
    assert len(models["models"]) == 3
    assert model["category"] == "translation"
    assert settings.startswith("# LLM Server Settings")
    assert [one["id"] for one in sessions["sessions"]] == [session_id]
    assert len(session["turns"]) == 1


@pytest.mark.parametrize("part", ["nope", "models/nope", "settings/x", "sessions/nope", ""])
async def test_a_resource_that_is_not_there_is_refused(mcp_rig: McpRig, part: str) -> None:
    async with mcp_rig.client() as client:
        with pytest.raises(MCPError) as refusal:
            await client.read_resource(f"conductor://{part}")
    assert refusal.value.error.code == -32602


async def test_every_engine_has_a_prompt_with_descriptions(mcp_rig: McpRig) -> None:
    async with mcp_rig.client() as client:
        prompts = (await client.list_prompts()).prompts
        filled = await client.get_prompt("translate", {"text": "Hello", "target": "German"})
    assert len(prompts) == len(engine_names()) + 1, (
        "an engine needs a tool in tools/engine_tools.py or a plain prompt in prompts.py of conductor_mcp"
    )
    assert all(prompt.description and prompt.arguments for prompt in prompts)
    assert all(one.description for prompt in prompts for one in prompt.arguments or [])
    (message,) = filled.messages
    assert isinstance(message.content, TextContent)
    assert "`translate`" in message.content.text
    assert "target: German" in message.content.text


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("nope", {}), ("translate", {"text": "x"}), ("chat", {"prompt": "x", "tone": "y"})],
)
async def test_a_prompt_that_cannot_be_filled_is_refused(
    mcp_rig: McpRig, name: str, arguments: dict[str, str]
) -> None:
    async with mcp_rig.client() as client:
        with pytest.raises(MCPError) as refusal:
            await client.get_prompt(name, arguments)
    assert refusal.value.error.code == -32602


async def test_categories_and_choices_are_completed(mcp_rig: McpRig) -> None:
    template = ResourceTemplateReference(uri="conductor://models/{category}")
    async with mcp_rig.client() as client:
        for ref in (PromptReference(name="ask"), template):
            found = await client.complete(ref, {"name": "category", "value": "Tr"})
            assert found.completion.values == ["translation"]
        choices = await client.complete(PromptReference(name="summarize"), {"name": "style", "value": "b"})
        none = await client.complete(PromptReference(name="chat"), {"name": "prompt", "value": ""})
    assert choices.completion.values == ["bullets"]
    assert none.completion.values == []
