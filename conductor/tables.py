"""Tables and plain values on standard output."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from conductor_core.quantities import format_bytes

PIPED_WIDTH = 200
"""Width of a table that is not shown on a terminal: so large that no cell is truncated, for `grep`."""


def show(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table without borders, headings in capitals."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading.upper(), no_wrap=not sys.stdout.isatty())
    for row in rows:
        table.add_row(*row)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPED_WIDTH
    console = Console(file=sys.stdout, width=width, markup=False, highlight=False)
    console.print(table)


def show_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def size(amount: int | None) -> str:
    """Bytes as text, a dash if unknown."""
    return "-" if amount is None else format_bytes(amount)
