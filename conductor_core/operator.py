"""Operator settings of the server, from `CONDUCTOR_` variables and command-line options.

SETTINGS.md is for models only; no operator setting is about a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from conductor_core.quantities import MemoryBudget, parse_duration

PREFIX = "CONDUCTOR_"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Host names and addresses that only this machine can reach."""

SECONDS_PER_GB = 20.0


class OperatorError(Exception):
    """Invalid operator settings; the message has one line for each bad value."""


def _budget(value: object) -> object:
    return MemoryBudget.parse(value) if isinstance(value, str) else value


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return parse_duration(value)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=10_000_000, allow_inf_nan=False)]


class OperatorSettings(BaseSettings):
    """One field per variable; times are in seconds, `host` and `port` are the gateway's address."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    state_dir: Path = Path(".conductor")
    settings: Path = Path("SETTINGS.md")
    memory_budget: Annotated[MemoryBudget, NoDecode, BeforeValidator(_budget)] = MemoryBudget()
    database_url: str | None = None
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
    ] = "INFO"
    load_timeout: Seconds = 300.0
    first_token_timeout: Seconds = 120.0
    token_timeout: Seconds = 60.0
    send_timeout: Seconds = 30.0
    max_wait: Seconds = 300.0
    queue_size: Annotated[int, Field(ge=1, le=100_000)] = 512
    create_key: bool = False
    api_key: SecretStr | None = None

    def load_timeout_for(self, memory: int | None) -> float:
        """Seconds that loading `memory` bytes may take: `load_timeout` plus 20 s for each GB."""
        return self.load_timeout + SECONDS_PER_GB * (memory or 0) / 1e9


_EXPECTED = {
    "host": "a host name or address",
    "port": "a whole number from 0 to 65535",
    "memory_budget": "a size such as 6GB, or cpu=6GB,cuda:0=20GB",
    "log_level": "one of debug, info, warning, error, critical",
    "queue_size": "a whole number from 1 to 100000",
    "create_key": "1 or 0",
}


def operator_settings(**options: Any) -> OperatorSettings:
    """Settings from the environment, overridden by `options` that are not None.

    OperatorError for bad values.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return OperatorSettings(**given)
    except ValidationError as error:
        lines = []
        for issue in error.errors():
            name = str(issue["loc"][0])
            origin = "--" + name.replace("_", "-") if name in given else PREFIX + name.upper()
            what = _EXPECTED.get(name, "a time such as 90, 90s or 5m")
            lines.append(f"{origin}: expected {what}, got {str(issue['input'])[:60]!r}")
        raise OperatorError("\n".join(dict.fromkeys(lines))) from error
