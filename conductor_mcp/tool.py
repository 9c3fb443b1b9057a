"""The shape of one MCP tool: its input and output types, who may call it, and how its failures are told.

Arguments are checked by `handlers.strict_json`, as every other body of the gateway is, so that a refusal
reads the same on all interfaces. Knows nothing of models; what a tool does is its `act`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp_types import ToolAnnotations
from pydantic import BaseModel, ConfigDict

from conductor_admin.audit import Audit
from conductor_admin.callers import Scope, need_scope
from conductor_mcp.origin import Origin, origin
from handlers.strict_json import parse
from handlers.strict_shapes import Shape
from handlers.wire import RequestError

Input = TypeVar("Input", bound=BaseModel)


class ToolInput(Shape):
    """Base of the arguments of a tool; an unknown one is refused by name."""

    model_config = ConfigDict(extra="forbid")


class _Arguments(ArgModelBase):
    """All arguments as they came, for `parse` to check."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    def model_dump_one_level(self) -> dict[str, Any]:
        return {"arguments": dict(self.model_extra or {})}


@dataclass(frozen=True, slots=True)
class Call(Generic[Input]):
    """One call of a tool: its checked arguments, where it comes from, and the way back to its client."""

    arguments: Input
    origin: Origin
    context: Context[Any, Any]


def make_tool(
    name: str,
    act: Callable[[Call[Input]], Awaitable[BaseModel]],
    *,
    title: str,
    description: str,
    takes: type[Input],
    gives: type[BaseModel],
    annotations: ToolAnnotations,
    scope: Scope | None = "infer",
    audit: Audit | None = None,
) -> Tool:
    """The tool `name`: `act` on arguments of the type `takes`, for callers with `scope`.

    Each call of one with an `audit` is recorded there.
    """

    async def run(arguments: dict[str, Any], ctx: Context[Any, Any]) -> BaseModel:
        asking = origin()
        with audited(audit, name, asking) if audit else nullcontext():
            try:
                if scope:
                    need_scope(asking.caller, scope)
                return await act(Call(parse(takes, arguments), asking, ctx))
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


@contextmanager
def audited(audit: Audit, tool: str, asking: Origin) -> Iterator[None]:
    """Record who called `tool` and how that ended, as the admin routes do."""
    result: str | int = "broken off"
    try:
        yield
        result = 200
    except ToolError as error:
        cause = error.__cause__
        result = cause.status if isinstance(cause, RequestError) else 500
        raise
    finally:
        caller = asking.caller
        audit.record(
            caller.name,
            f"tool {tool}",
            result,
            key_id=caller.key_id,
            source=asking.address,
            request_id=asking.request_id,
        )


def failure_text(error: RequestError) -> str:
    """`error` for a model to read: what is wrong, its code, and when a retry helps."""
    facts = [error.code or error.type]
    if error.retry_after_s is not None:
        facts.append(f"try again in {max(1, math.ceil(error.retry_after_s))} s")
    return f"{error.message} ({'; '.join(facts)})"
