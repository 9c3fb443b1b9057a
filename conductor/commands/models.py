"""`conductor list` and `show`: the rows of SETTINGS.md; no gateway is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from archives.build_context import BuildContext
from archives.known import known_weights
from archives.weights_info import in_tenths
from conductor.client import NotRunning
from conductor.commands.build import chosen_rows
from conductor.errors import CommandError
from conductor.options import gateway_of, operator_options, resolve
from conductor.parameters import parameter_table
from conductor.project import catalogue
from conductor.stored_archives import archive_state
from conductor.tables import show as show_table
from conductor.tables import show_json, size
from conductor_core.catalogue import Catalogue, Row
from conductor_core.operator import OperatorSettings
from conductor_core.paths import ProjectPaths, StateDir


@dataclass(frozen=True, slots=True)
class Described:
    """One row as the commands print it; memory in bytes."""

    category: str
    model: str
    technical_model_name: str
    precision: str
    memory: int | None
    stay_loaded: str
    runtime: str
    set: str
    archive: str


def described(table: Catalogue, row: Row, state: StateDir) -> Described:
    """Describe a row without a gateway."""
    worker_set = table.set_of(row.slug)
    return Described(
        category=row.slug,
        model=row.model,
        technical_model_name=row.technical_model_name,
        precision=row.precision_word,
        memory=row.declared_memory,
        stay_loaded=row.stay_loaded.value,
        runtime=worker_set.runtime,
        set=worker_set.name,
        archive=archive_state(state, worker_set),
    )


def _state(settings: OperatorSettings) -> StateDir:
    return StateDir.at(settings.state_dir)


@click.command(name="list")
@operator_options("settings", "state_dir")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_rows(as_json: bool, **given: Any) -> None:
    """List the rows of SETTINGS.md with the state of their archives."""
    settings = resolve(**given)
    table = catalogue(settings)
    rows = [described(table, row, _state(settings)) for row in table.rows]
    if as_json:
        show_json({"models": rows})
    else:
        headings = ("category", "model", "precision", "memory", "stay loaded", "runtime", "set", "archive")
        lines = [
            (r.category, r.model, r.precision, size(r.memory), r.stay_loaded, r.runtime, r.set, r.archive)
            for r in rows
        ]
        show_table(headings, lines)
    for warning in table.warnings:
        click.echo(f"warning: {warning}", err=True)


@click.command()
@click.argument("category")
@operator_options("settings", "state_dir", "host", "port")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(category: str, as_json: bool, **given: Any) -> None:
    """Show everything about CATEGORY: its row, worker set, state and supported parameters."""
    settings = resolve(**given)
    table = catalogue(settings)
    (row,) = chosen_rows(table, [category])
    with gateway_of(**given) as gateway:
        facts = _facts(table, row, settings)
        try:
            facts["state"] = str(gateway.model(category)["state"])
        except NotRunning:
            facts["state"] = "the gateway is not running"
        except CommandError as error:
            facts["state"] = error.format_message()
    parameters = parameter_table(table.set_of(row.slug).runtime, row.engine, row.parameters)
    if as_json:
        taken = [{"name": name, "taken": taken, "default": default} for name, taken, default in parameters]
        show_json({**facts, "parameters": taken})
        return
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' ')}: {_text(name, value)}")
    click.echo()
    lines = [
        (name, "yes" if taken else "refused", "-" if default is None else str(default))
        for name, taken, default in parameters
    ]
    show_table(("parameter", "taken", "default"), lines)


def _facts(table: Catalogue, row: Row, settings: OperatorSettings) -> dict[str, Any]:
    one = described(table, row, _state(settings))
    worker_set = table.set_of(row.slug)
    weights = known_weights(worker_set, BuildContext(ProjectPaths.at(settings.settings)))
    return {
        **{name: getattr(one, name) for name in Described.__slots__},
        "shared_with": [other.slug for other in worker_set.rows if other.slug != row.slug],
        "device": row.device,
        "workers": worker_set.workers,
        "context": worker_set.context,
        # Conversations of full length in the KV cache of one worker, from the local weights.
        "contexts_in_cache": in_tenths(weights.contexts),
        "idle_timeout_s": worker_set.idle_timeout_s,
        "engine": row.engine,
        "line": row.line,
    }


def _text(name: str, value: Any) -> str:
    if name == "memory":
        return size(value)
    if isinstance(value, list):
        return ", ".join(value) or "-"
    return "-" if value is None else str(value)
