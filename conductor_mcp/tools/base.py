"""Base of MCP tools: input and output types, the scope that callers need, and the texts of failures.

`handlers.strict_json` checks arguments, as every other body of the gateway, so that errors read the same on
all interfaces. Knows nothing of models; a tool's `act` does its work.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp_types import ToolAnnotations
from pydantic import BaseModel, ConfigDict

from conductor_admin.auth.audit import Act
from conductor_admin.auth.audit_writer import AuditWriter
from conductor_admin.auth.caller import Scope, need_scope
from conductor_mcp.origin import Origin, origin
from handlers.strict_json import parse
from handlers.wire import RequestError, Shape

Input = TypeVar("Input", bound=BaseModel)


class ToolInput(Shape):
    """Base of the arguments of a tool; an unknown one is refused by name."""

    model_config = ConfigDict(extra="forbid")


class _Arguments(ArgModelBase):
    """All arguments unchecked; `parse` checks them."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    def model_dump_one_level(self) -> dict[str, Any]:
        return {"arguments": dict(self.model_extra or {})}


@dataclass(frozen=True, slots=True)
class ToolInvocation(Generic[Input]):
    """One call of a tool: its checked arguments, its origin, and the SDK's context."""

    arguments: Input
    origin: Origin
    context: Context[Any, Any]


def make_tool(
    name: str,
    act: Callable[[ToolInvocation[Input]], Awaitable[BaseModel]],
    *,
    title: str,
    description: str,
    takes: type[Input],
    gives: type[BaseModel],
    annotations: ToolAnnotations,
    scope: Scope | None = "infer",
    audit: AuditWriter | None = None,
) -> Tool:
    """Make the tool `name`: it calls `act` with arguments of the type `takes`, for callers with `scope`.

    `audit` records each call at its end and, unless the tool only reads, before it acts.
    """

    async def run(arguments: dict[str, Any], ctx: Context[Any, Any]) -> BaseModel:
        asking = origin()
        try:
            await _admit(asking, scope, name, audit)
            if audit is None:
                return await act(ToolInvocation(parse(takes, arguments), asking, ctx))
            async with audited(audit, name, asking, changes=not annotations.read_only_hint):
                return await act(ToolInvocation(parse(takes, arguments), asking, ctx))
        except RequestError as error:
            raise ToolError(failure_text(error)) from error

    return Tool(
        fn=run,
        name=name,
        title=title,
        description=description,
        parameters=takes.model_json_schema(by_alias=True),
        fn_metadata=FuncMetadata(arg_model=_Arguments, output_model=gives),
        is_async=True,
        context_kwarg="ctx",
        annotations=annotations,
    )


async def _admit(asking: Origin, scope: Scope | None, tool: str, audit: AuditWriter | None) -> None:
    try:
        if scope:
            need_scope(asking.caller, scope)
    except RequestError as error:
        if audit is not None:
            await audit.refused(_act(tool, asking), error.status)
        raise


@asynccontextmanager
async def audited(audit: AuditWriter, tool: str, asking: Origin, *, changes: bool) -> AsyncIterator[None]:
    """Record a call of `tool` and its end, as admin routes do. Raises RequestError 507 before the block."""
    act = _act(tool, asking)
    if changes:
        await audit.begin(act)
    record = audit.end if changes else audit.was_read
    try:
        yield
    except RequestError as error:
        await record(act, error.status)
        raise
    except BaseException:
        if changes:
            audit.end_later(act, "broken off")
        raise
    await record(act, 200)


def _act(tool: str, asking: Origin) -> Act:
    caller = asking.caller
    return Act(caller.name, f"tool {tool}", asking.address, asking.request_id, caller.key_id)


def failure_text(error: RequestError) -> str:
    """Text of `error` for a model: message, code, and the seconds after which a retry helps."""
    facts = [error.code or error.type]
    if error.retry_after_s is not None:
        facts.append(f"try again in {max(1, math.ceil(error.retry_after_s))} s")
    return f"{error.message} ({'; '.join(facts)})"
