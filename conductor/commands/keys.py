"""`conductor keys`: the API keys. Changes the state folder's file, which a running gateway watches."""

from __future__ import annotations

import getpass
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from conductor.errors import CommandError, WrongInput
from conductor.options import operator_options, resolve
from conductor.tables import show as show_table
from conductor.tables import show_json
from conductor_admin.auth.audit import Act, Audit
from conductor_admin.auth.keys import Key, KeyBody, KeyRules, named
from conductor_admin.auth.keys_file import KeysFile, KeysFileError
from conductor_core.files import fault
from conductor_core.issues import CellError
from conductor_core.paths import StateDir
from conductor_core.quantities import parse_duration
from handlers.wire import RequestError

ANY = "any"
"""Value that removes a limit."""

_COLUMNS = {
    "id": "id",
    "name": "name",
    "scopes": "scopes",
    "categories": "categories",
    "loads": "may_load",
    "evicts": "may_evict",
    "requests": "requests_per_minute",
    "tokens": "tokens_per_minute",
    "streams": "streams",
    "expires": "expires",
}
"""Headings of `keys list`, each with its field of a key."""

_OTHER_OPTIONS = {"name": "NAME", "scopes": "--scope", "categories": "--category"}
"""Fields of a key whose options have other names."""

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def keys() -> None:
    """Create, change and revoke the keys of a gateway.

    Once there is a key, the gateway refuses requests without one, except the owner's own commands.
    """


def rule_options(command: Command) -> Command:
    """Add the options for a key's rules; a missing option is None or empty."""
    options = (
        click.option("--scope", "scopes", multiple=True, help="infer or admin; can be given several times."),
        click.option(
            "--category",
            "categories",
            multiple=True,
            help="Allow only this category; can be given several times.",
        ),
        click.option("--load/--no-load", "may_load", default=None, help="Allow the key to load models."),
        click.option(
            "--evict/--no-evict", "may_evict", default=None, help="Allow the key to evict other models."
        ),
        click.option("--requests-per-minute", metavar="N", help="Maximum generations started per minute."),
        click.option("--tokens-per-minute", metavar="N", help="Maximum tokens per minute, prompts included."),
        click.option("--streams", metavar="N", help="Maximum generations at the same time."),
        click.option("--expires", metavar="WHEN", help="Expiry date (2027-01-31), or time from now (30d)."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@keys.command()
@click.argument("name")
@rule_options
@operator_options("state_dir")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(name: str, state_dir: str | None, as_json: bool, **rules: Any) -> None:
    """Create a key and print its text, which is never shown again."""
    state = _state(state_dir)
    body = _checked(lambda: KeyBody(name=name, **_given(rules)))
    key, text = _audited(state, f"keys create {name}", lambda: KeysFile(state).create(body))
    if as_json:
        show_json({**key.to_json(), "key": text})
        return
    click.echo(text)
    click.echo(f"{key.id} ({', '.join(key.scopes)}): store it safely, it is not shown again", err=True)


@keys.command(name="list")
@operator_options("state_dir")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(state_dir: str | None, as_json: bool) -> None:
    """List the keys."""
    found = _read(_state(state_dir))
    if as_json:
        show_json({"keys": [key.to_json() for key in found]})
        return
    rows = [key.to_json() for key in found]
    show_table(tuple(_COLUMNS), [[_text(name, row[name]) for name in _COLUMNS.values()] for row in rows])


@keys.command()
@click.argument("key")
@operator_options("state_dir")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(key: str, state_dir: str | None, as_json: bool) -> None:
    """Show everything about KEY (an id or a name) except its text."""
    found = _plainly(lambda: named(_read(_state(state_dir)), key)).to_json()
    if as_json:
        show_json(found)
        return
    for name, value in found.items():
        click.echo(f"{name.replace('_', ' ')}: {_text(name, value)}")


@keys.command(name="set")
@click.argument("key")
@rule_options
@operator_options("state_dir")
def change(key: str, state_dir: str | None, **rules: Any) -> None:
    """Change the rules of KEY; `any` removes a limit."""
    state, given = _state(state_dir), _given(rules)
    if not given:
        raise WrongInput("nothing to change: give an option such as --requests-per-minute 60")
    changes = _checked(lambda: KeyRules(**given)).model_dump(exclude_unset=True)
    action = f"keys set {key}"
    changed = _audited(state, action, lambda: KeysFile(state).change(key, changes), rules=changes)
    click.echo(f"{changed.name}: " + ", ".join(f"{name} {_text(name, changes[name])}" for name in changes))


@keys.command()
@click.argument("key")
@operator_options("state_dir")
def revoke(key: str, state_dir: str | None) -> None:
    """Revoke KEY at once, and end its running requests."""
    state = _state(state_dir)
    revoked = _audited(state, f"keys revoke {key}", lambda: KeysFile(state).revoke(key), revokes=True)
    click.echo(f"{revoked.name} ({revoked.id}) is revoked")
    if not _read(state):
        click.echo(
            f"no key is left: only the owner's commands are accepted until {state.keys_file} is removed"
        )


def _state(state_dir: str | None) -> StateDir:
    return StateDir.at(resolve(state_dir=state_dir).state_dir)


def _read(state: StateDir) -> tuple[Key, ...]:
    return _plainly(lambda: KeysFile(state).read() or ())


def _audited(
    state: StateDir, action: str, act: Callable[[], T], *, revokes: bool = False, **details: Any
) -> T:
    """Record `act` before and after it runs; if that fails, only a revocation still runs."""
    state.create()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"  # a container need not know its user by name
    audit, who = Audit(state), Act(user, action, "command line")
    with _recording(done=revokes):
        (audit.begin_revocation if revokes else audit.begin)(who)
    try:
        done = _plainly(act)
    except CommandError as error:
        with _recording(done=True):
            audit.end(who, error.format_message())
        raise
    with _recording(done=True):
        audit.end(who, "done", **details)
    return done


@contextmanager
def _recording(*, done: bool) -> Iterator[None]:
    """Turn a fault of the audit log into a CommandError, or a warning if the action is `done` anyway."""
    try:
        yield
    except OSError as error:
        if not done:
            raise CommandError(
                f"nothing was changed, because the audit log cannot be written: {fault(error)}"
            ) from error
        click.echo(f"not recorded in the audit log: {fault(error)}", err=True)


def _plainly(act: Callable[[], T]) -> T:
    try:
        return act()
    except RequestError as error:
        raise CommandError(error.message) from error
    except KeysFileError as error:
        raise CommandError(str(error)) from error


def _checked(make: Callable[[], T]) -> T:
    try:
        return make()
    except ValidationError as error:
        lines = []
        for one in error.errors():
            field = str(one["loc"][0])
            option = _OTHER_OPTIONS.get(field, f"--{field.replace('_', '-')}")
            lines.append(f"{option}: {one['msg']}")
        raise WrongInput("\n".join(lines)) from error


def _given(rules: dict[str, Any]) -> dict[str, Any]:
    """The rules that the user gave, by name; `any` becomes None."""
    given: dict[str, Any] = {}
    for name, value in rules.items():
        if value in (None, ()):
            continue
        if value in (ANY, (ANY,)):
            given[name] = None
        elif name == "expires":
            given[name] = _moment(value)
        elif isinstance(value, tuple):
            given[name] = list(value)
        elif isinstance(value, str) and value.isascii() and value.isdigit():
            given[name] = int(value)
        else:
            given[name] = value
    return given


def _moment(text: str) -> float | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").astimezone().timestamp()
    except ValueError:
        pass
    try:
        seconds = parse_duration(text)
    except CellError as error:
        raise WrongInput(f"--expires: a date such as 2027-01-31, or a time: {error}") from error
    return None if math.isinf(seconds) else round(time.time() + seconds)


def _text(name: str, value: Any) -> str:
    if value is None:
        return "never" if name == "expires" else ANY
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value)
    if name in ("expires", "created"):
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="minutes")
    return str(value)
