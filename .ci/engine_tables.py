"""Rewrites the tables of options in docs/engines.md from the engines' own types.

With `--check` it changes nothing and fails where the page is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"(<!-- options of (\w+): written by make docs -->\n).*?(<!-- end -->)", re.DOTALL)


def kinds(schema: dict[str, Any]) -> list[str]:
    """Allowed values of an option: its choices, or its type."""
    if "anyOf" in schema:
        return [kind for branch in schema["anyOf"] for kind in kinds(branch) if kind != "null"]
    if "enum" in schema:
        return [f"`{choice}`" for choice in schema["enum"]]
    if schema.get("type") == "array":
        return [f"list of {' or '.join(kinds(schema.get('items', {}))) or 'any'}s"]
    return [str(schema["type"])] if "type" in schema else []


def options_table(engine: str) -> str:
    """The options of `engine`: name, type or choices, default, description."""
    from handlers.engines.registry import engine_class

    properties = engine_class(engine).options_type.model_json_schema()["properties"]
    rows = "".join(
        f"| `{name}` | {', '.join(kinds(one))} | {_shown(one.get('default'))} | {one['description']} |\n"
        for name, one in properties.items()
    )
    return f"| option | values | default | meaning |\n|---|---|---|---|\n{rows}"


def _shown(default: Any) -> str:
    return "" if default is None or default == "" else f"`{json.dumps(default)}`"


def main(page: Path, check: bool) -> None:
    """Bring `page` up to date, or say that it is not."""
    text = page.read_text(encoding="utf-8")
    wanted = TABLE.sub(lambda found: found[1] + options_table(found[2]) + found[3], text)
    if check and wanted != text:
        raise SystemExit(f"{page.name} is out of date: make docs")
    page.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(ROOT / "docs" / "engines.md", "--check" in sys.argv)
