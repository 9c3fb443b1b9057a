"""langchain-mcp-adapters: the gateway's MCP tools as langchain tools, by the handshake of older clients."""

from __future__ import annotations

import asyncio

from checks import KEY, URL, check, finish
from langchain_mcp_adapters.client import MultiServerMCPClient

server = {
    "transport": "streamable_http",
    "url": f"{URL}/mcp",
    "headers": {"Authorization": f"Bearer {KEY}"},
}


async def main() -> None:
    client = MultiServerMCPClient({"conductor": server})
    tools = {}
    with check("get_tools"):
        tools = {tool.name: tool for tool in await client.get_tools()}
        assert {"generate_text", "complete_code", "list_models"} <= tools.keys()
    with check("invoke a tool"):
        said = await tools["generate_text"].ainvoke({"prompt": "Count to five.", "max_tokens": 24})
        assert said
    with check("resources"):
        assert await client.get_resources("conductor", uris=["conductor://models"])


asyncio.run(main())
finish()
