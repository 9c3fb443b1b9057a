"""Progress display of a worker set while the gateway loads or unloads it.

A progress bar on a terminal, else one line for each step; both on standard error.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from conductor.client import GatewayClient
from conductor.errors import CommandError

LOOK_S = 0.2
_LAST_LOOK_S = 1.0

Show = Callable[[Mapping[str, Any]], None]


@contextmanager
def shown_progress(gateway: GatewayClient, category: str) -> Iterator[None]:
    """Show the state of the row's set until the block ends."""
    if not sys.stderr.isatty():
        with _looking(gateway, category, _Lines(category)):
            yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task(category, total=None)

        def show(model: Mapping[str, Any]) -> None:
            share = model.get("progress")
            whole, done = (None, 0.0) if share is None else (1.0, float(share))
            progress.update(task, description=f"{category}: {step(model)}", total=whole, completed=done)

        with _looking(gateway, category, show):
            yield


@contextmanager
def _looking(gateway: GatewayClient, category: str, show: Show) -> Iterator[None]:
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            try:
                show(gateway.model(category))
            except CommandError:
                continue  # the main call reports the error

    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    try:
        yield
    finally:
        ended.set()
        looker.join(_LAST_LOOK_S)


class _Lines:
    """Prints a line for each new step, and for each 10 % of a step with progress."""

    def __init__(self, category: str) -> None:
        self._category = category
        self._start = time.monotonic()
        self._said = ""

    def __call__(self, model: Mapping[str, Any]) -> None:
        share = model.get("progress")
        line = f"{self._category}: {step(model)}{'' if share is None else f' {int(share * 10) * 10}%'}"
        if line != self._said and model["state"] in ("LOADING", "UNLOADING"):
            self._said = line
            click.echo(f"{line} ({time.monotonic() - self._start:.0f} s)", err=True)


def step(model: Mapping[str, Any]) -> str:
    """Current step of a row's set: `download`, `queued 2 of 3 for memory`, `unloading after 2 answers`."""
    if model["state"] == "UNLOADING":
        running = model.get("in_flight") or 0
        return f"unloading after {running} answer{'s' if running > 1 else ''}" if running else "unloading"
    if model["state"] != "LOADING":
        return str(model["state"]).lower()
    if model.get("position"):
        return f"queued {model['position']} of {model.get('queue')} for memory"
    return str(model.get("phase") or "loading")
