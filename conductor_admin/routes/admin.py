"""`POST /admin/models/{category}/load` and `/unload`."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.failures import JsonResponse
from conductor_admin.gateway import Gateway
from conductor_admin.router import find_row
from conductor_admin.routes.models import describe
from handlers.wire import RequestError


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = APIRouter(prefix="/admin")

    @routes.post("/models/{category}/load")
    async def load(category: str) -> Response:
        """Load the row's set and wait for it; clears a cool-down."""
        row = find_row(gateway.catalogue, category)
        await gateway.lifecycle.load(gateway.catalogue.set_of(row.slug).name, row.slug)
        return JsonResponse(describe(gateway, row))

    @routes.post("/models/{category}/unload")
    async def unload(category: str, request: Request) -> Response:
        """Drop the row's claim; `mode=drain` or `now`, `force=true` ends the set for all its rows."""
        row = find_row(gateway.catalogue, category)
        mode = _one_of(request, "mode", "drain", "now")
        force = _one_of(request, "force", "false", "true")
        await gateway.lifecycle.unload(
            gateway.catalogue.set_of(row.slug).name, row.slug, force=force == "true", drain=mode == "drain"
        )
        return JsonResponse(describe(gateway, row))

    return routes


def _one_of(request: Request, name: Literal["mode", "force"], default: str, other: str) -> str:
    value = request.query_params.get(name, default)
    if value not in (default, other):
        raise RequestError(f"{name} is {default} or {other}", param=name, code="invalid_value")
    return value
