"""`conductor ps`, `load` and `unload`: the worker sets of the running gateway."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click

from conductor.client import GatewayClient
from conductor.load_progress import shown_progress
from conductor.options import ADDRESS, gateway_of, operator_options
from conductor.tables import show, show_json, size

INTERRUPTED = 130
IDLE_STATES = frozenset({"UNAVAILABLE"})


@click.command()
@operator_options(*ADDRESS)
@click.option("-a", "--all", "everything", is_flag=True, help="Also list sets that are not loaded.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ps(everything: bool, as_json: bool, **given: Any) -> None:
    """List the worker sets that are loaded, loading or failed."""
    with gateway_of(**given) as gateway:
        sets = worker_sets(gateway.models())
        health = {} if as_json else gateway.health()
    shown = [one for one in sets if everything or one["state"] not in IDLE_STATES]
    if as_json:
        show_json({"models": shown})
        return
    show(_HEADINGS, [_line(one, time.time()) for one in shown])
    for one in shown:
        name = one.get("set")
        if others := [slug for slug in one.get("shared_with") or () if slug != name]:
            click.echo(f"{name}: shared with {', '.join(others)}")
        if one.get("last_error"):
            click.echo(f"{name}: {error_text(one['last_error'])}")
        if cell := (one.get("memory") or {}).get("correction"):
            click.echo(f"{name}: measured memory suggests the cell {cell}")
    # Parts of an edit of SETTINGS.md that are not in force, with the cause.
    for error in (health.get("settings") or {}).get("errors") or ():
        click.echo(f"not applied: {error}", err=True)
    for cause in health.get("failed_changes") or ():
        click.echo(f"change failed: {cause}", err=True)


_HEADINGS = (
    "set",
    "state",
    "model",
    "precision",
    "device",
    "declared",
    "estimated",
    "measured",
    "workers",
    "in flight",
    "rows",
    "expires",
)


def worker_sets(models: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One row of each set: the row that the set is named after, if it is among `models`."""
    chosen: dict[str, Mapping[str, Any]] = {}
    for model in models:
        name = model.get("set") or model["category"]
        if name not in chosen or model["category"] == name:
            chosen[name] = model
    return list(chosen.values())


def error_text(error: Any) -> str:
    """Message of a `last_error`, which may be an object."""
    return str(error.get("message") if isinstance(error, Mapping) else error)


def _line(model: Mapping[str, Any], now: float) -> tuple[str, ...]:
    state, phase, progress = str(model["state"]), model.get("phase"), model.get("progress")
    if phase and model.get("position"):
        state += f" (queued {model['position']} of {model.get('queue')})"
    elif phase:
        share = f" {progress * 100:.0f}%" if isinstance(progress, float | int) else ""
        state += f" ({phase}{share})"
    return (
        str(model.get("set") or model["category"]),
        state,
        str(model.get("model") or "-"),
        str(model.get("precision") or "-"),
        str(model.get("device") or "-"),
        *(size((model.get("memory") or {}).get(column)) for column in ("declared", "estimated", "measured")),
        str(len(model.get("workers") or ())),
        str(model.get("in_flight", 0)),
        str(1 + len([s for s in model.get("shared_with") or () if s != model["category"]])),
        expiry(model.get("expires_at"), now),
    )


def expiry(value: Any, now: float) -> str:
    """Time until a set ends, from an ISO time or seconds since 1970; a dash if it stays."""
    if value is None:
        return "-"
    at = datetime.fromisoformat(value).timestamp() if isinstance(value, str) else float(value)
    left = max(0, round(at - now))
    return f"in {left} s" if left < 120 else f"in {left // 60} min"


@click.command()
@click.argument("category")
@operator_options(*ADDRESS)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def load(category: str, as_json: bool, **given: Any) -> None:
    """Load the worker set of CATEGORY, and wait until it is loaded; Ctrl-C stops only the waiting."""
    with gateway_of(**given) as gateway:
        with _waiting("load", gateway, category):
            gateway.load(category)
        _tell(gateway, category, as_json)


@click.command()
@click.argument("category")
@operator_options(*ADDRESS)
@click.option("--force", is_flag=True, help="Unload the set even if other rows need it.")
@click.option("--mode", type=click.Choice(("drain", "now")), default="drain", show_default=True,
              help="drain waits for running answers, now aborts them.")  # fmt: skip
@click.option("--now", "mode", flag_value="now", help="Same as --mode now.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def unload(category: str, force: bool, mode: str, as_json: bool, **given: Any) -> None:
    """Release the worker set of CATEGORY; it is unloaded if no other row needs it."""
    with gateway_of(**given) as gateway:
        with _waiting("unload", gateway, category):
            gateway.unload(category, force=force, mode=mode)
        _tell(gateway, category, as_json)


@contextmanager
def _waiting(verb: str, gateway: GatewayClient, category: str) -> Iterator[None]:
    try:
        with shown_progress(gateway, category):
            yield
    except KeyboardInterrupt:
        click.echo(f"the {verb} continues in the gateway; see: conductor ps", err=True)
        sys.exit(INTERRUPTED)


def _tell(gateway: GatewayClient, category: str, as_json: bool) -> None:
    model = gateway.model(category)
    if as_json:
        show_json(model)
    else:
        click.echo(f"{category} is {model['state']}")
