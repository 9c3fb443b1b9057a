"""Tools that inspect and operate the gateway: models, loading and unloading, settings, statistics."""

from __future__ import annotations

from typing import Annotated, Literal

from mcp.server.mcpserver.tools import Tool
from mcp_types import ToolAnnotations
from pydantic import Field

from conductor_admin.api.native.admin import describe_change
from conductor_admin.api.native.answers import PlanAnswer
from conductor_admin.api.native.models import model_answer
from conductor_admin.api.native.stats import stats_answer
from conductor_admin.api.schemas import ModelAnswer, ModelList, StatsAnswer
from conductor_admin.auth.caller import visible
from conductor_admin.gateway import Gateway
from conductor_admin.planner import find_row
from conductor_mcp.tools.base import ToolInput, ToolInvocation, make_tool
from conductor_mcp.tools.generating import status
from conductor_mcp.tools.progress import ToolProgress

READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
LOADS = READS.model_copy(update={"read_only_hint": False})
UNLOADS = LOADS.model_copy(update={"destructive_hint": True})

ADMIN_TOOLS = frozenset({"load_model", "unload_model", "plan_settings"})
OPEN_TOOLS = frozenset({"list_models", "server_stats"})  # for any key

Category = Annotated[str, Field(max_length=200, description="Slug of a row of SETTINGS.md.")]


class Nothing(ToolInput):
    """No arguments."""


class LoadInput(ToolInput):
    """The row to load."""

    category: Category


class UnloadInput(ToolInput):
    """The row to unload, and how."""

    category: Category
    mode: Annotated[
        Literal["drain", "now"],
        Field(description="drain waits for running answers to finish; now aborts them."),
    ] = "drain"
    force: Annotated[bool, Field(description="Unload the model even if other rows share it.")] = False


class PlanInput(ToolInput):
    """The table to plan."""

    settings: Annotated[
        str | None,
        Field(max_length=1_000_000, description="Full text of a SETTINGS.md; default: the file on disk."),
    ] = None


def operation_tools(gateway: Gateway) -> list[Tool]:
    """The operation tools of `gateway`."""
    return [
        _list_models(gateway),
        _load_model(gateway),
        _unload_model(gateway),
        _plan_settings(gateway),
        _server_stats(gateway),
    ]


def _list_models(gateway: Gateway) -> Tool:
    async def act(call: ToolInvocation[Nothing]) -> ModelList:
        rows = visible(gateway.catalogue, call.origin.caller)
        return ModelList(models=[model_answer(gateway, row, call.origin.caller) for row in rows])

    return make_tool(
        "list_models",
        act,
        title="List models",
        description="List the categories, their models, and which of them are loaded. No model is loaded.",
        takes=Nothing,
        gives=ModelList,
        annotations=READS,
        scope=None,
    )


def _load_model(gateway: Gateway) -> Tool:
    async def act(call: ToolInvocation[LoadInput]) -> ModelAnswer:
        row = find_row(gateway.catalogue, call.arguments.category, call.origin.caller)
        async with ToolProgress(call.context).reporting(lambda: status(gateway, row)):
            await gateway.lifecycle.load(row.slug)
        return model_answer(gateway, row, call.origin.caller)

    return make_tool(
        "load_model",
        act,
        title="Load a model",
        description="Load the model of a category now, and wait for it. Others may be unloaded for it.",
        takes=LoadInput,
        gives=ModelAnswer,
        annotations=LOADS,
        scope="admin",
        audit=gateway.audit,
    )


def _unload_model(gateway: Gateway) -> Tool:
    async def act(call: ToolInvocation[UnloadInput]) -> ModelAnswer:
        asked = call.arguments
        row = find_row(gateway.catalogue, asked.category, call.origin.caller)
        worker_set = gateway.catalogue.set_of(row.slug).name
        await gateway.lifecycle.unload(worker_set, row.slug, force=asked.force, drain=asked.mode == "drain")
        return model_answer(gateway, row, call.origin.caller)

    return make_tool(
        "unload_model",
        act,
        title="Unload a model",
        description="Unload the model of a category and free its memory; the next request loads it again.",
        takes=UnloadInput,
        gives=ModelAnswer,
        annotations=UNLOADS,
        scope="admin",
        audit=gateway.audit,
    )


def _plan_settings(gateway: Gateway) -> Tool:
    async def act(call: ToolInvocation[PlanInput]) -> PlanAnswer:
        return await describe_change(gateway, call.arguments.settings)

    return make_tool(
        "plan_settings",
        act,
        title="Plan an edit of SETTINGS.md",
        description="Report the changes that a SETTINGS.md would make and whether its models fit into "
        "memory, or each mistake in it with line and column. Nothing is changed.",
        takes=PlanInput,
        gives=PlanAnswer,
        annotations=READS,
        scope="admin",
        audit=gateway.audit,
    )


def _server_stats(gateway: Gateway) -> Tool:
    async def act(call: ToolInvocation[Nothing]) -> StatsAnswer:
        return stats_answer(gateway, call.origin.caller)

    return make_tool(
        "server_stats",
        act,
        title="Server statistics",
        description="Requests, tokens, errors and times per category since the start, and memory in use.",
        takes=Nothing,
        gives=StatsAnswer,
        annotations=READS,
        scope=None,
    )
