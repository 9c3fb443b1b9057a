"""The OpenAPI document: FastAPI's own, with the bodies, refusals, headers and security that it cannot see.

Routes declare their answers as FastAPI's routes do, and their bodies with `reads`; rules give refusals and
security. The schema of `options` is made from the engines' own types.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from conductor_admin.api.routing import PLACE
from conductor_admin.api.schemas import ErrorAnswer
from conductor_admin.auth.access import ROUTE_SCOPES
from handlers.engines.registry import engine_class, engine_names
from handlers.wire import INPUT_OPTIONS, GenerateBody

_ID = {"$ref": "#/components/headers/RequestId"}
_ERROR = {"application/json": {"schema": {"$ref": PLACE.format(model=ErrorAnswer.__name__)}}}
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


def describe_options(schemas: dict[str, Any], bodies: Sequence[type[BaseModel]]) -> None:
    """Give the `options` of every body in `schemas` the engines' own schemas."""
    references = {}
    for engine in engine_names():
        kind = engine_class(engine).options_type
        schema = kind.model_json_schema(ref_template=PLACE)
        schemas.update(schema.pop("$defs", {}))
        schemas.setdefault(kind.__name__, schema)
        references[engine] = {"$ref": PLACE.format(model=kind.__name__)}
    different = list({reference["$ref"]: reference for reference in references.values()}.values())
    for schema in (schemas[body.__name__] for body in bodies):
        if "category" in schema.get("properties", {}) and "options" in schema["properties"]:
            schema["properties"]["options"] = {
                "type": "object",
                "default": {},
                "description": "options of the category's engine; an option of another engine is an error",
                "anyOf": different,
                "x-conductor-engines": references,
            }


def describe(app: FastAPI, bodies: Sequence[type[BaseModel]]) -> None:
    """Make `app.openapi` describe `bodies`, refusals, headers and security beside what FastAPI sees."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                routes=app.routes,
                separate_input_output_schemas=False,
            )
            _define(document.setdefault("components", {}), bodies)
            describe_options(document["components"]["schemas"], bodies)
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    _describe(operation, path)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _define(components: dict[str, Any], bodies: Sequence[type[BaseModel]]) -> None:
    schemas = components.setdefault("schemas", {})
    for name in _FASTAPIS_OWN:
        schemas.pop(name, None)
    models: list[type[BaseModel]] = [*bodies, ErrorAnswer]
    for model in models:
        schema = model.model_json_schema(ref_template=PLACE)
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


def _describe(operation: dict[str, Any], path: str) -> None:
    need = ROUTE_SCOPES.get(path, ROUTE_SCOPES.get(f"{path.removesuffix('}')}:path}}", "decision"))
    answers = operation["responses"]
    answers.pop("422", None)  # FastAPI's own status for a wrong parameter, which is a 400 here
    refusal = answers.get("400", {}).get("content") or _ERROR
    for status in _refusals(need, has_body="requestBody" in operation, is_named="{" in path):
        answers.setdefault(str(status), {"content": refusal})
    operation["responses"] = {
        status: {
            "description": HTTPStatus(int(status)).phrase,
            "headers": {"x-request-id": _ID},
            "content": answer.get("content", {}),
        }
        for status, answer in sorted(answers.items())
    }
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
