"""The OpenAPI document of routes that read bodies and write answers without FastAPI's help.

A route declares its body with `reads`, the table here declares answers, rules give statuses and security. The
schema of `options` is made from the engines' own types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field

from conductor_admin.api import schemas
from conductor_admin.auth.access import ROUTE_SCOPES
from conductor_admin.auth.keys import KeyBody, KeyRules
from conductor_admin.sessions.models import SessionChange
from handlers.engines.registry import engine_class, engine_names
from handlers.wire import INPUT_OPTIONS, MAX_PROMPT_CHARS, MOST_OPTIONS, GenerateBody, Shape

_PLACE = "#/components/schemas/{model}"
_ID = {"$ref": "#/components/headers/RequestId"}
_EVENTS, _LINES = "text/event-stream", "application/x-ndjson"
_EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
_FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")

_SAID, _NULL = {"not": {"type": "null"}}, {"type": "null"}
_ONE_INPUT: list[dict[str, Any]] = [
    {"required": ["prompt"], "properties": {"prompt": _SAID, "messages": _NULL}},
    {"required": ["messages"], "properties": {"messages": _SAID, "prompt": _NULL}},
    {
        "required": ["options"],
        "properties": {
            "options": {"anyOf": [{"required": [name]} for name in sorted(INPUT_OPTIONS)]},
            "prompt": _NULL,
            "messages": _NULL,
        },
    },
]
"""Rules of GenerateBody as a whole, which pydantic checks but leaves out of the schema."""

MAX_TEXT_CHARS = 1_000_000
"""Longest answer to check, in characters: more than any model here writes."""


def describe_options(schemas: dict[str, Any], place: str) -> None:
    """Give every `options` in `schemas` the engines' own schemas; `place` is the template of a reference."""
    references = {}
    for engine in engine_names():
        kind = engine_class(engine).options_type
        schema = kind.model_json_schema(ref_template=place)
        schemas.update(schema.pop("$defs", {}))
        schemas.setdefault(kind.__name__, schema)
        references[engine] = {"$ref": place.format(model=kind.__name__)}
    different = list({reference["$ref"]: reference for reference in references.values()}.values())
    for schema in schemas.values():
        if "category" in schema.get("properties", {}) and "options" in schema["properties"]:
            schema["properties"]["options"] = {
                "type": "object",
                "default": {},
                "description": "options of the category's engine; an option of another engine is an error",
                "anyOf": different,
                "x-conductor-engines": references,
            }


class CheckBody(Shape):
    """Body of `/check`: an answer that the client already has."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    category: Annotated[str, Field(max_length=200)] | None = None
    prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARS)] = ""
    text: Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
    options: Annotated[dict[str, Any], Field(max_length=MOST_OPTIONS)] = Field(default={})


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """The answer of an operation that succeeds; `also` are further statuses with that shape."""

    model: type[BaseModel] | None
    status: int = 200
    other: str | None = None
    also: tuple[int, ...] = ()


ANSWERS: Mapping[str, RouteAnswer] = {
    "GET /health": RouteAnswer(schemas.HealthAnswer, also=(503,)),
    "GET /health/live": RouteAnswer(schemas.Live, also=(503,)),
    "GET /health/ready": RouteAnswer(schemas.Ready, also=(503,)),
    "GET /metrics": RouteAnswer(None, other="text/plain"),
    "POST /generate": RouteAnswer(schemas.Generated, other=_EVENTS),
    "POST /generate/stream": RouteAnswer(None, other=_EVENTS),
    "POST /check": RouteAnswer(schemas.Checked),
    "GET /models": RouteAnswer(schemas.ModelsAnswer),
    "GET /models/{category}": RouteAnswer(schemas.ModelAnswer),
    "GET /stats": RouteAnswer(schemas.StatsAnswer),
    "GET /requests": RouteAnswer(schemas.TracesAnswer),
    "GET /requests/{request_id}": RouteAnswer(schemas.TraceAnswer),
    "POST /admin/models/{category}/load": RouteAnswer(schemas.ModelAnswer),
    "POST /admin/models/{category}/unload": RouteAnswer(schemas.ModelAnswer),
    "GET /admin/plan": RouteAnswer(schemas.PlanAnswer),
    "POST /admin/plan": RouteAnswer(schemas.PlanAnswer),
    "POST /admin/reload": RouteAnswer(schemas.PlanAnswer),
    "GET /admin/keys": RouteAnswer(schemas.KeysAnswer),
    "POST /admin/keys": RouteAnswer(schemas.KeyMade, 201),
    "GET /admin/keys/{key}": RouteAnswer(schemas.KeyShown),
    "PATCH /admin/keys/{key}": RouteAnswer(schemas.KeyShown),
    "DELETE /admin/keys/{key}": RouteAnswer(schemas.KeyShown),
    "GET /ping": RouteAnswer(schemas.Ping, also=(500,)),
    "POST /predictions/{category}": RouteAnswer(schemas.Generated, other=_LINES),
    "POST /predictions/{category}/{version}": RouteAnswer(schemas.Generated, other=_LINES),
    "POST /predictions/{category}/{version}/{engine}": RouteAnswer(schemas.Generated, other=_LINES),
    "GET /sessions": RouteAnswer(schemas.SessionsAnswer),
    "GET /sessions/{session_id}": RouteAnswer(schemas.SessionWithTurnsAnswer),
    "PATCH /sessions/{session_id}": RouteAnswer(schemas.SessionAnswer),
    "DELETE /sessions/{session_id}": RouteAnswer(schemas.Deleted),
    "GET /v1/models": RouteAnswer(schemas.OpenAIModels),
    "GET /v1/models/{model}": RouteAnswer(schemas.OpenAIModel),
    "POST /v1/chat/completions": RouteAnswer(schemas.CompletionAnswer, other=_EVENTS),
    "POST /v1/completions": RouteAnswer(schemas.CompletionAnswer, other=_EVENTS),
    "POST /v1/embeddings": RouteAnswer(schemas.EmbeddingsAnswer),
    "POST /v1/responses": RouteAnswer(schemas.ResponseObject, other=_EVENTS),
}

_UNSAID = RouteAnswer(None)
_BODIES: tuple[type[BaseModel], ...] = (GenerateBody, CheckBody, SessionChange, KeyBody, KeyRules)
_SHAPES: tuple[type[BaseModel], ...] = (
    schemas.ErrorAnswer,
    schemas.TorchserveErrorAnswer,
    *dict.fromkeys(answer.model for answer in ANSWERS.values() if answer.model),
)


def reads(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads a `model`."""
    return {"requestBody": {"required": True, "content": _json(model)}}


def describe(app: FastAPI, more: Sequence[type[BaseModel]] = ()) -> None:
    """Make `app.openapi` describe bodies and answers of all routes: the native bodies and `more`."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _define(document.setdefault("components", {}), (*_BODIES, *more))
            describe_options(document["components"]["schemas"], _PLACE)
            for name, path, operation in _operations(document):
                _describe(operation, name, path)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _define(components: dict[str, Any], bodies: Sequence[type[BaseModel]]) -> None:
    schemas = components.setdefault("schemas", {})
    for name in _FASTAPIS_OWN:
        schemas.pop(name, None)
    for model in (*bodies, *_SHAPES):
        schema = model.model_json_schema(ref_template=_PLACE)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    generate = schemas[GenerateBody.__name__]
    generate["properties"]["engine"] = {"enum": [*engine_names(), None], "default": None}
    generate["oneOf"] = _ONE_INPUT
    words = "the request's own `x-request-id` if it is valid, otherwise a new one; it is in every log line"
    components["headers"] = {
        "RequestId": {"description": words, "required": True, "schema": {"type": "string", "minLength": 1}}
    }
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"{method.upper()} {path}", path, operation


def _describe(operation: dict[str, Any], name: str, path: str) -> None:
    answer = ANSWERS.get(name, _UNSAID)
    need = ROUTE_SCOPES.get(path, ROUTE_SCOPES.get(f"{path.removesuffix('}')}:path}}", "decision"))
    shape = schemas.TorchserveErrorAnswer if path.startswith("/predictions/") else schemas.ErrorAnswer
    refusals = _refusals(need, has_body="requestBody" in operation, is_named="{" in path)
    failed = {status: _response(status, _json(shape)) for status in refusals}
    content = _json(answer.model) if answer.model else {}
    if answer.other is not None:
        content[answer.other] = {"schema": _EVENT if answer.other == _EVENTS else {"type": "string"}}
    worked = {status: _response(status, content) for status in (answer.status, *answer.also)}
    operation["responses"] = {str(status): told for status, told in sorted({**failed, **worked}.items())}
    # `{}` stands for no key: a gateway without keys asks for none.
    operation["security"] = [] if need == "nothing" else [{"bearer": []}, {"header": []}, {}]


def _refusals(need: str, *, has_body: bool, is_named: bool) -> set[int]:
    """Statuses of 400 and more that an operation may answer, by its body, path and need."""
    found = {400, 403, 421, 500}
    if need != "nothing":
        found |= {401}
    if has_body:
        found |= {408, 413}
    if is_named:
        found |= {404, 409}
    if need in ("infer", "admin"):
        found |= {404, 409, 429, 503, 504, 507}
    return found


def _response(status: int, content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "headers": {"x-request-id": _ID},
        "content": dict(content),
    }


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _PLACE.format(model=model.__name__)}}}
