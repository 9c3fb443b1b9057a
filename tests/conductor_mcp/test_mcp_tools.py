"""Tools over HTTP, in both protocol eras, on a gateway with a fake worker."""

from __future__ import annotations

from tests.conductor_mcp.conftest import McpRig


async def test_a_generation_has_text_and_structured_output(mcp_rig: McpRig) -> None:
    async with mcp_rig.client() as client:
        result = await client.call_tool("generate_text", {"prompt": "Hello world"})
    assert not result.is_error
    assert result.structured_content is not None
    assert result.structured_content["text"] == "one two three"
    assert result.structured_content["category"] == "conversational_chat"
