"""`GET /v1/models` and `/v1/models/{id}`."""

from __future__ import annotations

import time

from fastapi import APIRouter
from starlette.requests import Request

from conductor_admin.api.openai.answers import OpenAIModel, OpenAIModels
from conductor_admin.api.routing import new_router
from conductor_admin.api.targets import named, names
from conductor_admin.auth.caller import caller_of
from conductor_admin.gateway import Gateway
from conductor_core.catalogue import Row


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = new_router()
    created = int(time.time())

    @routes.get("/v1/models")
    async def models(request: Request) -> OpenAIModels:
        """List the names that `model` accepts: categories first, then technical names."""
        found = names(gateway.catalogue, caller_of(request))
        return OpenAIModels(object="list", data=[_model(name, row, created) for name, row in found])

    # The id of a model may have slashes, and so may not stand for one segment only.
    @routes.get("/v1/models/{model:path}")
    async def model(request: Request, model: str) -> OpenAIModel:
        """One model by its category or technical name."""
        caller = caller_of(request)
        target = named(gateway.catalogue, model, caller)
        return _model(target.name, target.row, created)

    return routes


def _model(name: str, row: Row, created: int) -> OpenAIModel:
    """The owner is `conductor` for a category or a local path, else the organisation on the hub."""
    is_own = name == row.slug or row.ref.kind == "path"
    owner = "conductor" if is_own else row.ref.source.split("/")[0]
    return OpenAIModel(id=name, object="model", created=created, owned_by=owner)
