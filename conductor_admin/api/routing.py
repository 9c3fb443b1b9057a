"""Declarations of a route: its router, the body it reads, and the answers that FastAPI cannot see.

FastAPI serialises what a route returns as a model of `conductor_admin.api.schemas`. A route that streams, or
has large answers, returns a Response and declares its model.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from conductor_admin.http.responses import JsonResponse

PLACE = "#/components/schemas/{model}"

_EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}

Responses = dict[int | str, dict[str, Any]]

EVENTS: Responses = {200: {"content": {"text/event-stream": {"schema": _EVENT}}}}
LINES: Responses = {200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}}


def new_router(prefix: str = "") -> APIRouter:
    """A router whose routes may return models."""
    return APIRouter(prefix=prefix, default_response_class=JsonResponse)


def reads(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads a `model`."""
    schema = {"$ref": PLACE.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
