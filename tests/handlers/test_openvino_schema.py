"""External references of a JSON schema are refused before the compiler prints them into a log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from handlers.runtimes.openvino.schema import SchemaProbe
from handlers.wire import RequestError


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.org/schema"},
        {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"$ref": "elsewhere"}]}}},
        {"$ref": "#anchor"},
    ],
)
async def test_a_reference_to_something_outside_is_refused_without_repeating_it(
    schema: dict[str, Any], tmp_path: Path
) -> None:
    probe = SchemaProbe(tmp_path, 1)
    with pytest.raises(RequestError) as refused:
        await probe.check(schema)
    probe.close()
    assert (refused.value.status, refused.value.code) == (400, "invalid_json_schema")
    assert not any(word in refused.value.message for word in ("example", "elsewhere", "anchor"))


@pytest.mark.parametrize(
    "schema", [{"$ref": "#"}, {"$ref": "#/$defs/a"}, {"properties": {"$ref": {"type": "null"}}}]
)
async def test_a_reference_within_the_schema_reaches_the_compiler(
    schema: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(_: SchemaProbe, text: str) -> str:
        asked.append(text)
        return ""

    monkeypatch.setattr(SchemaProbe, "_ask", ask)
    probe = SchemaProbe(tmp_path, 1)
    await probe.check(schema)
    probe.close()
    assert len(asked) == 1
