"""`conductor plan`: what an edit of SETTINGS.md will change, before it does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from conductor.options import ADDRESS, gateway_of, operator_options
from conductor.tables import show_json, size

_CHANGES = ("added", "rebuilt", "changed", "removed", "untouched")


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@operator_options(*ADDRESS)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(file: Path | None, as_json: bool, **given: Any) -> None:
    """Show what SETTINGS.md, or FILE in its place, would change on the running gateway."""
    with gateway_of(**given) as gateway:
        found = gateway.plan(None if file is None else file.read_bytes())
    if as_json:
        show_json(found)
        return
    for line in plan_lines(found):
        click.echo(line)


def plan_lines(found: Mapping[str, Any]) -> list[str]:
    """The answer of `/admin/plan` for a reader."""
    lines = [f"{word}: {', '.join(found[word])}" for word in _CHANGES if found.get(word)]
    for device, memory in found["memory"].items():
        lines.append(f"resident on {device}: {size(memory['resident'])} of {size(memory['budget'])}")
    if not found["resident_fits"]:
        lines.append("the sets that stay loaded do not fit together")
    lines += [f"{name}: ends before its new version is loaded" for name in found["drains_first"]]
    lines += [f"never loaded together: {' and '.join(pair)}" for pair in found["never_together"]]
    return [*lines, *(f"warning: {warning}" for warning in found["warnings"])]
