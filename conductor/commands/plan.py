"""`conductor plan`: the changes of an edit of SETTINGS.md, before they are applied."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from archives.build_context import BuildContext
from archives.known import known_weights
from conductor.client import NotRunning
from conductor.options import ADDRESS, gateway_of, operator_options, resolve
from conductor.project import catalogue, placed
from conductor.tables import show_json, size
from conductor_admin.memory.history import MemoryHistory
from conductor_admin.settings.plan import plan_start, plan_to_json
from conductor_core.machine import probe
from conductor_core.operator import OperatorSettings
from conductor_core.paths import ProjectPaths, StateDir
from conductor_core.placement import device_budgets

CANNOT = 1
"""Exit code for a valid table that does not fit this machine."""

_CHANGES = ("added", "rebuilt", "changed", "removed", "untouched")


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@operator_options(*ADDRESS, "settings", "memory_budget")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(
    file: Path | None, as_json: bool, settings: str | None, memory_budget: str | None, **address: Any
) -> None:
    """Show what SETTINGS.md, or FILE instead, would change on the running gateway.

    Without a running gateway, show the plan for a first start. Exits with 2 if the table has mistakes, with
    1 if it does not fit this machine's memory.
    """
    operator = resolve(settings=file or settings, memory_budget=memory_budget, **address)
    if file is not None:
        catalogue(operator)  # so that its errors have its name
    try:
        with gateway_of(**address) as gateway:
            found = gateway.plan(file)
    except NotRunning:
        click.echo("no gateway is running: this is the plan for a first start", err=True)
        found = first_start(operator, ProjectPaths.at(resolve(settings=settings).settings))
    if as_json:
        show_json(found)
    else:
        click.echo("\n".join(plan_lines(found)))
    if not found["resident_fits"] or found["never_fits"]:
        sys.exit(CANNOT)


def first_start(operator: OperatorSettings, project: ProjectPaths) -> dict[str, Any]:
    """Answer of `/admin/plan` of a gateway that serves nothing yet, on this machine.

    Memory figures come from the models' files below `project` and from measurements of earlier gateways of
    the state folder.
    """
    table = placed(operator)
    history, build_context = MemoryHistory(StateDir.at(operator.state_dir).peaks_file), BuildContext(project)
    figures = {one.name: history.figures(one, known_weights(one, build_context)) for one in table.sets}
    return plan_to_json(plan_start(table), figures, {}, device_budgets(probe(), operator.memory_budget))


def plan_lines(found: Mapping[str, Any]) -> list[str]:
    """The answer of `/admin/plan` as lines of text."""
    lines = [f"{word}: {', '.join(found[word])}" for word in _CHANGES if found.get(word)]
    for one in found["sets"]:
        # `chat: 1.3 GB of cpu (declared 2 GB, estimated 900 MB, measured 1.3 GB)`
        sizes = {"declared": one["declared"], "estimated": one["estimated"], "measured": one["peak"]}
        parts = ", ".join(f"{word} {size(value)}" for word, value in sizes.items() if value is not None)
        lines.append(f"{one['set']}: {size(one['needed'])} of {one['device']} ({parts})")
    for device, memory in found["memory"].items():
        lines.append(f"resident on {device}: {size(memory['resident'])} of {size(memory['budget'])}")
    if not found["resident_fits"]:
        lines.append("the sets that stay loaded do not fit together")
    lines += [
        f"never loaded: {one['set']} needs {size(one['needed'])} of {one['device']}, "
        f"{size(one['room'])} is available beside the sets that stay loaded"
        for one in found["never_fits"]
    ]
    lines += [f"{name}: is unloaded before its new version is loaded" for name in found["drains_first"]]
    lines += [f"never loaded together: {' and '.join(pair)}" for pair in found["never_together"]]
    lines += [
        f"measured: {one['category']} needs {size(one['peak'])}, not {size(one['declared'])}; "
        f"its VRAM/RAM Requirements cell should be {one['cell']}"
        for one in found["corrections"]
    ]
    return [*lines, *(f"warning: {warning}" for warning in found["warnings"])]
