"""`GET /v1/models` and `/v1/models/{id}`."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.targets import named, names
from conductor_admin.auth.caller import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.http.responses import JsonResponse
from conductor_core.catalogue import Row


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = APIRouter()
    created = int(time.time())

    @routes.get("/v1/models")
    async def models(request: Request) -> Response:
        """List the names that `model` accepts: categories first, then technical names."""
        found = names(gateway.catalogue, caller_of(request))
        return JsonResponse({"object": "list", "data": [_model(name, row, created) for name, row in found]})

    # The id of a model may have slashes, and so may not stand for one segment only.
    @routes.get("/v1/models/{model:path}")
    async def model(request: Request, model: str) -> Response:
        """One model by its category or technical name."""
        caller = caller_of(request)
        target = named(gateway.catalogue, model, caller)
        return JsonResponse(_model(target.name, target.row, created))

    return routes


def _model(name: str, row: Row, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": _owner(name, row)}


def _owner(name: str, row: Row) -> str:
    """Owner: `conductor` for a category or a local path, else the organisation on the hub."""
    if name == row.slug or row.ref.kind == "path":
        return "conductor"
    return row.ref.source.split("/")[0]
