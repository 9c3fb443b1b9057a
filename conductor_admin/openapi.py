"""The OpenAPI document's request bodies: routes read bodies themselves, so that FastAPI does not see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict

from conductor_admin.keys import KeyBody, KeyRules
from conductor_admin.session_records import SessionChange
from handlers.wire import GenerateBody

_PLACE = "#/components/schemas/{model}"


class CheckBody(BaseModel):
    """Body of `/check`: an answer that the client already has."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    category: str | None = None
    prompt: str = ""
    text: str
    options: dict[str, Any] = {}


_BODIES: tuple[type[BaseModel], ...] = (GenerateBody, CheckBody, SessionChange, KeyBody, KeyRules)


def reads(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads a `model`."""
    schema = {"$ref": _PLACE.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe_bodies(app: FastAPI, more: Sequence[type[BaseModel]] = ()) -> None:
    """Let `app.openapi` define the schemas that `reads` refers to: the native ones, and `more`."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for model in (*_BODIES, *more):
                schema = model.model_json_schema(ref_template=_PLACE)
                schemas.update(schema.pop("$defs", {}))
                schemas[model.__name__] = schema
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
