"""Routes for operators: `/admin/models/{category}/load` and `/unload`, `/admin/plan`, `/admin/reload`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AfterValidator
from starlette.requests import Request

from conductor_admin.api.native.answers import PlanAnswer
from conductor_admin.api.native.models import model_answer
from conductor_admin.api.routing import new_router
from conductor_admin.api.schemas import ModelAnswer
from conductor_admin.auth.caller import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.http.body import read_body
from conductor_admin.planner import find_row
from conductor_admin.settings.plan import Plan, plan_to_json
from conductor_core.issues import SettingsError
from handlers.wire import RequestError

_LONGEST_NAME = 255
_TABLE: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"text/markdown": {"schema": {"type": "string"}}}}
}


def _checked_name(name: str | None) -> str | None:
    if name is not None and not (name.isprintable() and 0 < len(name) <= _LONGEST_NAME):
        raise ValueError(f"name must be at most {_LONGEST_NAME} printable characters")
    return name


TableName = Annotated[
    str | None,
    Query(json_schema_extra={"maxLength": _LONGEST_NAME}),
    AfterValidator(_checked_name),
]


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = new_router("/admin")

    @routes.post("/models/{category}/load")
    async def load(category: str, request: Request) -> ModelAnswer:
        """Load the row's set and wait for it; clears a cool-down."""
        row = find_row(gateway.catalogue, category, caller_of(request))
        await gateway.lifecycle.load(row.slug)
        return model_answer(gateway, row, caller_of(request))

    @routes.post("/models/{category}/unload")
    async def unload(
        category: str,
        request: Request,
        mode: Literal["drain", "now"] = "drain",
        force: Literal["false", "true"] = "false",
    ) -> ModelAnswer:
        """Drop the row's claim; `mode=drain` or `now`, `force=true` ends the set for all its rows."""
        row = find_row(gateway.catalogue, category, caller_of(request))
        await gateway.lifecycle.unload(
            gateway.catalogue.set_of(row.slug).name, row.slug, force=force == "true", drain=mode == "drain"
        )
        return model_answer(gateway, row, caller_of(request))

    @routes.get("/plan")
    async def plan() -> PlanAnswer:
        """Show what applying the current SETTINGS.md would change; changes nothing."""
        return await describe_change(gateway)

    @routes.post("/plan", openapi_extra=_TABLE)
    async def plan_of_text(request: Request, name: TableName = None) -> PlanAnswer:
        """Show what applying the body, a table in Markdown, instead of SETTINGS.md would change.

        Errors and warnings call the table `name`.
        """
        text = (await read_body(request)).decode("utf-8", "surrogateescape")
        return await describe_change(gateway, text, name)

    @routes.post("/reload")
    async def reload() -> PlanAnswer:
        """Apply the current SETTINGS.md and show what changes; a file with errors changes nothing."""
        return await _answer(gateway, gateway.settings.reload())

    return routes


async def describe_change(gateway: Gateway, text: str | None = None, name: str | None = None) -> PlanAnswer:
    """Plan of applying `text` or the current SETTINGS.md; RequestError lists all errors in it."""
    return await _answer(gateway, gateway.settings.plan(text, name))


async def _answer(gateway: Gateway, reading: Awaitable[Plan]) -> PlanAnswer:
    try:
        plan = await reading
    except SettingsError as error:
        raise RequestError(str(error), code="invalid_settings") from error
    admission = gateway.lifecycle.admission
    await admission.measurements.look_up(plan.catalogue.sets)
    figures = {one.name: admission.figures(one) for one in plan.catalogue.sets}
    before = {one.name: admission.figures(one).admission for one, _ in plan.rebuilt}
    return PlanAnswer.model_validate(plan_to_json(plan, figures, before, admission.budget))
