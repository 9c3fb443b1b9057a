"""Declarations of a route: its router, the body it reads, and the answers that FastAPI cannot see.

FastAPI serialises what a route returns as a model of `conductor_admin.api.schemas`. A route that streams, or
has large answers, returns a Response and declares its model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import JSONResponse

PLACE = "#/components/schemas/{model}"

_EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}

Responses = dict[int | str, dict[str, Any]]

EVENTS: Responses = {200: {"content": {"text/event-stream": {"schema": _EVENT}}}}
LINES: Responses = {200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}}


class ModelResponse(JSONResponse):
    """The JSON of a model that a route has returned; never cached."""

    def __init__(
        self, content: Any, status_code: int = 200, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(content, status_code, {"cache-control": "no-store", **(headers or {})}, **more)

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def new_router(prefix: str = "") -> APIRouter:
    """A router whose routes may return models."""
    return APIRouter(prefix=prefix, default_response_class=ModelResponse)


def reads(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads a `model`."""
    schema = {"$ref": PLACE.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
