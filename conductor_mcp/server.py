"""The MCP server of a gateway: combines tools, resources, prompts and completion.

Decides which of them a caller sees. `conductor_mcp.endpoint` serves it over HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib import metadata
from typing import Any

from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolResult,
    Completion,
    CompletionArgument,
    CompletionContext,
    GetPromptResult,
    InputRequiredResult,
    PromptReference,
    Resource,
    ResourceTemplate,
    ResourceTemplateReference,
    Tool,
)
from pydantic import AnyUrl

from conductor_admin.auth.caller import Caller, visible
from conductor_admin.gateway import Gateway
from conductor_mcp.origin import origin, remember_origin
from conductor_mcp.prompts import choices, prompts
from conductor_mcp.resources import Resources
from conductor_mcp.tools.generation import generation_tools, needed_engine
from conductor_mcp.tools.operations import ADMIN_TOOLS, OPEN_TOOLS, operation_tools

NAME = "conductor"
INSTRUCTIONS = (
    "Local language models, one for each category of work. `generate_text` works with any category; the "
    "other generating tools take the options of one kind of work and check its answers: read `findings`. A "
    "model that is not loaded is loaded by the first call that needs it, which may take minutes; progress "
    "notifications report how far the load is."
)
_MOST = 100  # values of one completion, by the protocol


class ConductorMCP(MCPServer[Any]):
    """MCP server of `gateway`; its lists depend on SETTINGS.md and the caller's key."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(
            NAME,
            title="Conductor",
            instructions=INSTRUCTIONS,
            version=metadata.version("conductor"),
            tools=[*generation_tools(gateway), *operation_tools(gateway)],
            middleware=[remember_origin],
        )
        self._gateway = gateway
        self._resources = Resources(gateway)
        for prompt in prompts():
            self.add_prompt(prompt)
        self.completion()(self._complete)  # type: ignore[no-untyped-call]

    async def list_tools(self) -> list[Tool]:
        """The tools that the caller may use; an engine's tool is listed if a visible row uses the engine."""
        caller = origin().caller
        return [tool for tool in await super().list_tools() if self._offers(tool.name, caller)]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool. Raises MCPError for an unknown one."""
        if self._tool_manager.get_tool(name) is None:
            raise MCPError(INVALID_PARAMS, f"no tool {name[:64]!r}; tools/list lists them")
        return await super().call_tool(name, arguments, context)

    async def list_resources(self) -> list[Resource]:
        """The resources with a fixed URI."""
        return self._resources.listed()

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """The URI templates."""
        return self._resources.templates()

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents]:
        """Read a resource for the caller."""
        return await self._resources.read(str(uri), origin().caller)

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[Any, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        """Fill in a prompt. Raises MCPError for an unknown one, and for missing or unknown arguments."""
        prompt = self._prompt_manager.get_prompt(name)
        if prompt is None:
            raise MCPError(INVALID_PARAMS, f"no prompt {name[:64]!r}; prompts/list lists them")
        known = prompt.arguments or []
        missing = [one.name for one in known if one.required and not (arguments or {}).get(one.name)]
        unknown = sorted((arguments or {}).keys() - {one.name for one in known})
        if missing or unknown:
            fault = f"needs {', '.join(missing)}" if missing else f"has no argument {unknown[0][:64]!r}"
            raise MCPError(INVALID_PARAMS, f"prompt {name} {fault}")
        return await super().get_prompt(name, arguments, context)

    async def _complete(
        self,
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        if argument.name == "category":
            known = [row.slug for row in visible(self._gateway.catalogue, origin().caller)]
        else:
            known = choices(ref.name, argument.name) if isinstance(ref, PromptReference) else []
        begun = argument.value.lower()
        found = [value for value in known if value.lower().startswith(begun)]
        return Completion(values=found[:_MOST], total=len(found), has_more=len(found) > _MOST)

    def _offers(self, name: str, caller: Caller) -> bool:
        if name in ADMIN_TOOLS:
            return "admin" in caller.scopes
        if name not in OPEN_TOOLS and "infer" not in caller.scopes:
            return False
        engine = needed_engine(name)
        return engine is None or any(row.engine == engine for row in visible(self._gateway.catalogue, caller))


def build_server(gateway: Gateway) -> MCPServer[Any]:
    """The MCP server over `gateway`; logging must be configured before, or the SDK configures it."""
    # Its lines below a warning have session ids, which give access to a session.
    logging.getLogger("mcp").setLevel(logging.WARNING)
    return ConductorMCP(gateway)
