"""One generation for an MCP client: the same planner, leases and workers as for `/generate`."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

from mcp_types import CallToolResult, ImageContent, TextContent, ToolAnnotations

from conductor_admin.api.rendering import generation_answer
from conductor_admin.api.responder import waiting_for
from conductor_admin.api.schemas import Generated
from conductor_admin.auth.caller import Caller, visible
from conductor_admin.gateway import Gateway
from conductor_admin.lifecycle.states import State
from conductor_admin.planner import PlannedRequest
from conductor_admin.workers.client import worker_died
from conductor_core.catalogue import Catalogue, Row
from conductor_mcp.tools.base import Input, ToolInvocation
from conductor_mcp.tools.progress import ToolProgress
from handlers.wire import Done, GenerateInput, RequestError

# Each call may give another answer, and uses nothing but the model.
GENERATES = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=False, open_world_hint=False
)


async def generate(gateway: Gateway, body: GenerateInput, call: ToolInvocation[Input]) -> Generated:
    """Generate the answer to `body`; cancelled if the call is. Raises RequestError."""
    planned = await gateway.plan(body, call.origin.request_id, call.origin.caller)
    progress = ToolProgress(call.context)
    if progress.is_wanted:
        # Text that was sent as progress cannot be taken back, so there is only one attempt.
        planned = replace(planned, request=planned.request.model_copy(update={"attempts": 1}))
        done = await call.origin.while_there(_with_progress(gateway, planned, progress))
    else:
        done = await call.origin.while_there(gateway.dispatcher.result(planned))
    return generation_answer(planned, done)


async def _with_progress(gateway: Gateway, planned: PlannedRequest, progress: ToolProgress) -> Done:
    async with (
        progress.reporting(lambda: status(gateway, planned.row)),
        aclosing(gateway.dispatcher.run(planned)) as records,
    ):
        async for record in records:
            if isinstance(record, Done):
                return record
            await progress.add(record)
    raise worker_died()


def status(gateway: Gateway, row: Row) -> tuple[float, str]:
    """Status of the model of `row`: the progress of its load from 0 to 1, and a text."""
    view = gateway.lifecycle.view(row.slug)
    if view.state is State.READY:
        return 1.0, f"{row.slug} is working"
    return view.progress or 0.0, waiting_for(row.slug, view)


def category_of(catalogue: Catalogue, engine: str, caller: Caller) -> str:
    """The caller's row named after the engine, else the caller's first row that uses it. RequestError 404."""
    slugs = [row.slug for row in visible(catalogue, caller) if row.engine == engine]
    if not slugs:
        raise RequestError(
            f"no row of SETTINGS.md uses the engine {engine}; add one, or give a category",
            status=404,
            code="model_not_found",
            param="category",
        )
    return engine if engine in slugs else slugs[0]


def with_picture(answer: Generated) -> Generated | CallToolResult:
    """The answer with its chart as a picture instead of a very long base64 text."""
    chart = answer.findings.get("chart")
    if not isinstance(chart, str):
        return answer
    without_chart = answer.model_copy(update={"findings": {**answer.findings, "chart": "see the image"}})
    return CallToolResult(
        content=[
            TextContent(type="text", text=without_chart.model_dump_json(indent=2)),
            ImageContent(type="image", data=chart, mime_type="image/png"),
        ],
        structured_content=without_chart.model_dump(mode="json"),
    )
