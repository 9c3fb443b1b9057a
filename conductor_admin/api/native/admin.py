"""Routes for operators: `/admin/models/{category}/load` and `/unload`, `/admin/plan`, `/admin/reload`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.native.models import row_to_json
from conductor_admin.auth.caller import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.http.body import read_body
from conductor_admin.http.responses import JsonResponse
from conductor_admin.planner import find_row
from conductor_admin.settings.plan import Plan, plan_to_json
from conductor_core.issues import SettingsError
from handlers.wire import RequestError

_LONGEST_NAME = 255
_WAYS: dict[str, Any] = {
    "parameters": [
        {"name": "mode", "in": "query", "schema": {"enum": ["drain", "now"], "default": "drain"}},
        {"name": "force", "in": "query", "schema": {"enum": ["true", "false"], "default": "false"}},
    ]
}
_TABLE: dict[str, Any] = {
    "parameters": [{"name": "name", "in": "query", "schema": {"type": "string", "maxLength": _LONGEST_NAME}}],
    "requestBody": {"required": True, "content": {"text/markdown": {"schema": {"type": "string"}}}},
}


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = APIRouter(prefix="/admin")

    @routes.post("/models/{category}/load")
    async def load(category: str, request: Request) -> Response:
        """Load the row's set and wait for it; clears a cool-down."""
        row = find_row(gateway.catalogue, category, caller_of(request))
        await gateway.lifecycle.load(row.slug)
        return JsonResponse(row_to_json(gateway, row, caller_of(request)))

    @routes.post("/models/{category}/unload", openapi_extra=_WAYS)
    async def unload(category: str, request: Request) -> Response:
        """Drop the row's claim; `mode=drain` or `now`, `force=true` ends the set for all its rows."""
        row = find_row(gateway.catalogue, category, caller_of(request))
        mode = _one_of(request, "mode", "drain", "now")
        force = _one_of(request, "force", "false", "true")
        await gateway.lifecycle.unload(
            gateway.catalogue.set_of(row.slug).name, row.slug, force=force == "true", drain=mode == "drain"
        )
        return JsonResponse(row_to_json(gateway, row, caller_of(request)))

    @routes.get("/plan")
    async def plan() -> Response:
        """Show what applying the current SETTINGS.md would change; changes nothing."""
        return JsonResponse(await describe_change(gateway))

    @routes.post("/plan", openapi_extra=_TABLE)
    async def plan_of_text(request: Request) -> Response:
        """Show what applying the body, a table in Markdown, instead of SETTINGS.md would change.

        Errors and warnings call the table `name`.
        """
        text = (await read_body(request)).decode("utf-8", "surrogateescape")
        return JsonResponse(await describe_change(gateway, text, _name(request)))

    @routes.post("/reload")
    async def reload() -> Response:
        """Apply the current SETTINGS.md and show what changes; a file with errors changes nothing."""
        return JsonResponse(await _to_json(gateway, await _readable(gateway.settings.reload())))

    return routes


async def describe_change(
    gateway: Gateway, text: str | None = None, name: str | None = None
) -> dict[str, Any]:
    """Plan of applying `text` or the current SETTINGS.md, as JSON; RequestError lists all errors in it."""
    return await _to_json(gateway, await _readable(gateway.settings.plan(text, name)))


async def _readable(reading: Awaitable[Plan]) -> Plan:
    try:
        return await reading
    except SettingsError as error:
        raise RequestError(str(error), code="invalid_settings") from error


async def _to_json(gateway: Gateway, plan: Plan) -> dict[str, Any]:
    admission = gateway.lifecycle.admission
    await admission.measurements.look_up(plan.catalogue.sets)
    figures = {one.name: admission.figures(one) for one in plan.catalogue.sets}
    before = {one.name: admission.figures(one).admission for one, _ in plan.rebuilt}
    return plan_to_json(plan, figures, before, admission.budget)


def _name(request: Request) -> str | None:
    name = request.query_params.get("name")
    if name is not None and not (name.isprintable() and 0 < len(name) <= _LONGEST_NAME):
        raise RequestError(
            "name must be at most 255 printable characters", param="name", code="invalid_value"
        )
    return name


def _one_of(request: Request, name: Literal["mode", "force"], default: str, other: str) -> str:
    value = request.query_params.get(name, default)
    if value not in (default, other):
        raise RequestError(f"{name} is {default} or {other}", param=name, code="invalid_value")
    return value
