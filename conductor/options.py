"""Shared options of commands, named as the CONDUCTOR_ variables they override, and their resolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
import orjson

from conductor.client import GatewayClient
from conductor.errors import WrongInput
from conductor_core.files import read_bounded
from conductor_core.operator import LOOPBACK, OperatorError, OperatorSettings, operator_settings
from conductor_core.owner import owner_headers
from conductor_core.paths import StateDir
from conductor_core.run_file import LARGEST_BYTES

Command = TypeVar("Command", bound=Callable[..., Any])

_HELP = {
    "host": "Address of the gateway. [default: 127.0.0.1]",
    "port": "Port of the gateway. [default: 8000]",
    "state_dir": "Folder for sockets, archives and logs. [default: .conductor]",
    "settings": "File with the table of models. [default: SETTINGS.md]",
    "log_level": "debug, info, warning, error or critical. [default: info]",
    "memory_budget": "Memory that models may use, as 6GB or cpu=6GB,cuda:0=20GB. [default: 90 %]",
    "database_url": "URL of the session database. [default: a file in the state folder]",
    "load_timeout": "Time limit for a load, plus 20 s per GB. [default: 300s]",
    "first_token_timeout": "Time limit for the first token. [default: 120s]",
    "token_timeout": "Time limit between two tokens. [default: 60s]",
    "send_timeout": "Time limit for a client that stops reading its answer. [default: 30s]",
    "max_wait": "Time limit for a request to start. [default: 300s]",
    "queue_size": "Maximum number of waiting requests. [default: 512]",
}

ADDRESS = ("host", "port", "state_dir")
FILES = ("settings", "state_dir")
EVERY = tuple(_HELP)


def operator_options(*names: str) -> Callable[[Command], Command]:
    """Add the options `names` to a command, which gets them as keywords: None if not given."""

    def add(command: Command) -> Command:
        for name in reversed(names):
            option = click.option(f"--{name.replace('_', '-')}", name, help=_HELP[name], metavar="VALUE")
            command = option(command)
        return command

    return add


def resolve(**given: Any) -> OperatorSettings:
    """The operator's settings: options, else the environment, else defaults."""
    try:
        return operator_settings(**given)
    except OperatorError as error:
        raise WrongInput(str(error)) from error


def gateway_of(**given: Any) -> GatewayClient:
    """Client of the gateway at the given or configured address, else of the state folder's gateway."""
    settings = resolve(**given)
    state = StateDir.at(settings.state_dir)
    running = running_address(state)
    host, port = settings.host, settings.port
    if running and {"host", "port"}.isdisjoint(settings.model_fields_set):
        host, port = running
    return GatewayClient(host, port, headers=who_asks(settings, host, port))


def who_asks(settings: OperatorSettings, host: str, port: int) -> dict[str, str]:
    """Headers with the owner's token for the state folder's gateway, else with CONDUCTOR_API_KEY."""
    state = StateDir.at(settings.state_dir)
    running = running_address(state)
    if running and running[1] == port and host in {running[0], *LOOPBACK}:
        return owner_headers(state)
    return {"authorization": f"Bearer {settings.api_key.get_secret_value()}"} if settings.api_key else {}


def running_address(state: StateDir) -> tuple[str, int] | None:
    """Host and port in the run file of a state folder; None if there is no valid one."""
    try:
        value = orjson.loads(read_bounded(state.run_file, LARGEST_BYTES))
        return str(value["host"]), int(value["port"])
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
