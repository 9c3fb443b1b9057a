"""fastmcp's client over streamable HTTP: lists, a call with progress, errors, resources and prompts."""

from __future__ import annotations

import asyncio

from checks import KEY, URL, check, finish
from fastmcp import Client
from fastmcp.exceptions import ToolError
from mcp import MCPError

progress: list[float] = []


async def told(done: float, total: float | None, message: str | None) -> None:
    """Record the progress that the server reports while a tool works."""
    progress.append(done)


async def main() -> None:
    async with Client(f"{URL}/mcp", auth=KEY) as client:
        with check("list tools"):
            assert {"generate_text", "complete_code", "list_models"} <= {
                tool.name for tool in await client.list_tools()
            }
        with check("call a tool, with progress"):
            asked = {"prompt": "Count to five.", "max_tokens": 24}
            result = await client.call_tool("generate_text", asked, progress_handler=told)
            assert result.structured_content["usage"]["completion_tokens"] and progress == sorted(progress)
            assert progress
        with check("an error of a tool"):
            try:
                await client.call_tool("generate_text", {"prompt": "x", "category": "nothing"})
                raise AssertionError("no error")
            except ToolError as error:
                assert "nothing" in str(error)
        with check("a tool that this key may not call"):
            try:
                await client.call_tool("load_model", {"category": "embedding"})
                raise AssertionError("no error")
            except ToolError as error:
                assert "admin" in str(error)
        with check("resources and prompts"):
            assert await client.read_resource("conductor://models")
            assert await client.list_prompts()
    with check("no key, no entry"):
        try:
            async with Client(f"{URL}/mcp"):
                raise AssertionError("no error")
        except MCPError as error:  # this client gives no more details of a 401
            print(error)


asyncio.run(main())
finish()
