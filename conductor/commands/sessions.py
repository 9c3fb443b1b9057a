"""`conductor sessions`: the stored conversations of the running gateway."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from conductor.errors import WrongInput
from conductor.options import ADDRESS, gateway_of, operator_options
from conductor.tables import show as show_table
from conductor.tables import show_json


@click.group()
def sessions() -> None:
    """List, show, rename and delete the gateway's stored conversations."""


@sessions.command(name="list")
@operator_options(*ADDRESS)
@click.option(
    "-n", "--limit", type=click.IntRange(1, 200), default=50, help="Maximum number to list. [default: 50]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_sessions(limit: int, as_json: bool, **given: Any) -> None:
    """List sessions, the most recently used first."""
    with gateway_of(**given) as gateway:
        found = gateway.sessions(limit)
    if as_json:
        show_json({"sessions": found})
        return
    lines = [
        (one["id"], _when(one["updated"]), str(one["turn_count"]), one["category"], one["title"])
        for one in found
    ]
    show_table(("id", "used", "turns", "category", "title"), lines)


@sessions.command()
@click.argument("session")
@operator_options(*ADDRESS)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(session: str, as_json: bool, **given: Any) -> None:
    """Show the turns of SESSION, given by its id."""
    with gateway_of(**given) as gateway:
        found = gateway.session(session)
    if as_json:
        show_json(found)
        return
    click.echo(f"{found['title']} ({found['category']}, {_when(found['created'])})")
    for turn in found["turns"]:
        cut = " (cancelled)" if turn["state"] == "cancelled" else ""
        click.echo(f"\n>>> {turn['user']}\n{turn['assistant']}{cut}")


@sessions.command()
@click.argument("session")
@click.argument("title")
@operator_options(*ADDRESS)
def rename(session: str, title: str, **given: Any) -> None:
    """Change the title of SESSION to TITLE."""
    if not title.strip():
        raise WrongInput("TITLE: expected text")
    with gateway_of(**given) as gateway:
        click.echo(f"{session} is now titled {gateway.rename_session(session, title)['title']}")


@sessions.command()
@click.argument("session")
@operator_options(*ADDRESS)
def delete(session: str, **given: Any) -> None:
    """Delete SESSION with all its turns."""
    with gateway_of(**given) as gateway:
        gateway.delete_session(session)
        click.echo(f"{session} is deleted")


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", timespec="minutes")[:16]
