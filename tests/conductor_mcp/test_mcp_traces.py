"""Generations of MCP clients in `/requests`."""

from __future__ import annotations

from tests.conductor_mcp.conftest import McpRig


async def test_a_call_has_a_trace_that_says_how_it_came(mcp_rig: McpRig) -> None:
    async with mcp_rig.client() as client:
        await client.call_tool("generate_text", {"prompt": "x"})
    (trace,) = (await mcp_rig.rig.client.get("/requests")).json()["requests"]
    assert (trace["route"], trace["state"], trace["category"]) == ("/mcp", "succeeded", "conversational_chat")
