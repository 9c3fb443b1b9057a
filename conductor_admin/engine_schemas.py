"""What the OpenAPI document says of `options`: a schema for each engine, made from the engines themselves."""

from __future__ import annotations

from typing import Any

from handlers.engines.registry import engine_class, engine_names


def describe_options(schemas: dict[str, Any], place: str) -> None:
    """Give every `options` in `schemas` the engines' own schemas; `place` makes a reference of a name."""
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
                "description": "options of the category's engine; another engine's are refused by name",
                "anyOf": different,
                "x-conductor-engines": references,
            }
