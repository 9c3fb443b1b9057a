"""The OpenAPI document has every option of every engine, with its type, choices and description."""

from __future__ import annotations

from typing import Any

from handlers.engines.registry import engine_class, engine_names
from tests.conductor_admin.gateway_rig import Rig


def resolved(document: dict[str, Any], reference: dict[str, str]) -> dict[str, Any]:
    return dict(document["components"]["schemas"][reference["$ref"].rpartition("/")[2]])


async def test_options_of_generate_and_check_are_those_of_the_engines(rig: Rig) -> None:
    document = (await rig.client.get("/openapi.json")).json()
    for body in ("GenerateBody", "CheckBody"):
        options = document["components"]["schemas"][body]["properties"]["options"]
        engines = options["x-conductor-engines"]
        assert set(engines) == set(engine_names())
        for engine, reference in engines.items():
            assert reference in options["anyOf"]
            described = resolved(document, reference)["properties"] if reference else {}
            assert set(described) == engine_class(engine).options_type.names()
            assert all(one["description"] for one in described.values())
    maths = resolved(document, engines["mathematical_reasoning"])["properties"]
    assert maths["format"]["enum"] == ["text", "latex"]
    extraction = resolved(document, engines["information_extraction"])
    assert extraction["additionalProperties"] is False
    assert "schema" in extraction["properties"]
