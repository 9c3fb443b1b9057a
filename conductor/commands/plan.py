"""`conductor plan`: what an edit of SETTINGS.md will change, before it does."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from conductor.client import NotRunning
from conductor.options import ADDRESS, gateway_of, operator_options, resolve
from conductor.project import catalogue, placed
from conductor.tables import show_json, size
from conductor_admin.ledger import Figures
from conductor_admin.settings_plan import describe, plan_start
from conductor_core.machine import probe
from conductor_core.operator import OperatorSettings
from conductor_core.placement import device_budgets

CANNOT = 1
"""Exit code for a table that is right, but not for this machine."""

_CHANGES = ("added", "rebuilt", "changed", "removed", "untouched")


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@operator_options(*ADDRESS, "settings", "memory_budget")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(
    file: Path | None, as_json: bool, settings: str | None, memory_budget: str | None, **address: Any
) -> None:
    """Show what SETTINGS.md, or FILE in its place, would change on the running gateway.

    Without a gateway it is the plan of a first start. Exits 2 for a table with mistakes, 1 for one that does
    not fit this machine's memory.
    """
    operator = resolve(settings=file or settings, memory_budget=memory_budget, **address)
    if file is not None:
        catalogue(operator)  # so that its mistakes carry its name
    try:
        with gateway_of(**address) as gateway:
            found = gateway.plan(None if file is None else file.read_bytes())
    except NotRunning:
        click.echo("no gateway is running: this is the plan of a first start", err=True)
        found = first_start(operator)
    if as_json:
        show_json(found)
    else:
        click.echo("\n".join(plan_lines(found)))
    if not found["resident_fits"] or found["never_fits"]:
        sys.exit(CANNOT)


def first_start(operator: OperatorSettings) -> dict[str, Any]:
    """The answer of `/admin/plan` of a gateway that serves nothing yet, on this machine."""
    table = placed(operator)
    needs = {one.name: Figures.of(one, None, {}, {}).admission for one in table.sets}
    return describe(plan_start(table), needs, {}, device_budgets(probe(), operator.memory_budget))


def plan_lines(found: Mapping[str, Any]) -> list[str]:
    """The answer of `/admin/plan` for a reader."""
    lines = [f"{word}: {', '.join(found[word])}" for word in _CHANGES if found.get(word)]
    for device, memory in found["memory"].items():
        lines.append(f"resident on {device}: {size(memory['resident'])} of {size(memory['budget'])}")
    if not found["resident_fits"]:
        lines.append("the sets that stay loaded do not fit together")
    lines += [
        f"never loaded: {one['set']} needs {size(one['needed'])} of {one['device']}, "
        f"{size(one['room'])} can be had beside the sets that stay loaded"
        for one in found["never_fits"]
    ]
    lines += [f"{name}: ends before its new version is loaded" for name in found["drains_first"]]
    lines += [f"never loaded together: {' and '.join(pair)}" for pair in found["never_together"]]
    return [*lines, *(f"warning: {warning}" for warning in found["warnings"])]
