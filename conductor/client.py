"""Client of the gateway for the command line: JSON over HTTP, and a stream of events.

Knows routes, the one error shape, and the three forms of `/generate/stream` (comment, data record, `[DONE]`).
Prints nothing; every failure is a CommandError of one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2
import orjson

from conductor.errors import CommandError, WrongInput
from conductor_core.files import read_bounded
from conductor_core.settings.parser import LARGEST_BYTES

CONNECT_TIMEOUT_S = 5.0
DEFAULT_PORT = 8000


@dataclass(frozen=True, slots=True)
class Comment:
    """Progress while a set loads; not part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Record:
    """One JSON object of the stream: `{"delta"}`, `{"attempt"}`, `{"error"}` or the last record."""

    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class End:
    """The `[DONE]` line: the stream succeeded."""


class BrokenEvent(ValueError):
    """An event that is not JSON: the stream was cut inside it."""


Event = Comment | Record | End


def events(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the events of a stream of lines (without line ends); skip other fields and blank lines."""
    for line in lines:
        if line.startswith(":"):
            yield Comment(line[1:].strip())
        elif line.startswith("data:"):
            text = line[5:].strip()
            if text == "[DONE]":
                yield End()
                continue
            try:
                record = Record(orjson.loads(text))
            except orjson.JSONDecodeError as error:
                raise BrokenEvent(text[:80]) from error
            yield record


class NotRunning(CommandError):
    """No server listens at the gateway's address."""


class GatewayClient:
    """A client of one gateway; use it as a context manager."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        headers: Mapping[str, str] | None = None,
        read_timeout_s: float | None = None,
    ) -> None:
        """`headers` go with every request and authenticate it."""
        self.host = host
        self.port = port
        self.headers = dict(headers or {})
        # A read may take as long as a load or an answer: the gateway has the timeouts. Proxies of the
        # environment are for the network, not for this machine.
        self._http = httpx2.Client(
            base_url=self.url,
            headers=self.headers,
            timeout=httpx2.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S),
            trust_env=False,
        )

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def is_up(self) -> bool:
        """True if the gateway's event loop answers."""
        try:
            self._call("GET", "/health/live")
        except CommandError:
            return False
        return True

    def models(self) -> list[dict[str, Any]]:
        """The rows of `GET /models`."""
        return list(self._call("GET", "/models")["models"])

    def model(self, category: str) -> dict[str, Any]:
        """One row of `GET /models`. Raises CommandError with close names for an unknown category."""
        return self._call("GET", f"/models/{quote(category, safe='')}")

    def load(self, category: str) -> dict[str, Any]:
        """Load the set of a row and wait until it is loaded, however long that takes."""
        while True:
            try:
                return self._call("POST", f"/admin/models/{quote(category, safe='')}/load")
            except CommandError as error:
                if error.code != "model_loading":
                    raise

    def health(self) -> dict[str, Any]:
        """The detail of `GET /health`: errors of the settings, failed changes, every set."""
        return self._call("GET", "/health")

    def unload(self, category: str, *, force: bool, mode: str) -> dict[str, Any]:
        """Drop a row's claim; `force` ends the set for all its rows."""
        query = {"mode": mode} | ({"force": "true"} if force else {})
        return self._call("POST", f"/admin/models/{quote(category, safe='')}/unload", query)

    def plan(self, file: Path | None = None) -> dict[str, Any]:
        """Plan of applying SETTINGS.md, or `file` instead. Raises WrongInput if the table has errors."""
        if file is None:
            return self._call("GET", "/admin/plan")
        return self._call(
            "POST", "/admin/plan", {"name": file.name}, content=read_bounded(file, LARGEST_BYTES)
        )

    def requests(self, limit: int) -> list[dict[str, Any]]:
        """The traces of at most `limit` requests, the newest first."""
        return list(self._call("GET", "/requests", {"limit": str(limit)})["requests"])

    def request(self, request: str) -> dict[str, Any]:
        """The trace of one request."""
        return self._call("GET", f"/requests/{quote(request, safe='')}")

    def sessions(self, limit: int) -> list[dict[str, Any]]:
        """At most `limit` sessions, the last used first."""
        return list(self._call("GET", "/sessions", {"limit": str(limit)})["sessions"])

    def session(self, session: str) -> dict[str, Any]:
        """A session with its turns."""
        return self._call("GET", _session(session))

    def rename_session(self, session: str, title: str) -> dict[str, Any]:
        """Give a session another title."""
        return self._call("PATCH", _session(session), content=orjson.dumps({"title": title}))

    def delete_session(self, session: str) -> dict[str, Any]:
        """Delete a session with its turns."""
        return self._call("DELETE", _session(session))

    @contextmanager
    def generate(self, body: Mapping[str, Any]) -> Iterator[Iterator[Event]]:
        """Stream the events of one answer; leaving the block early closes the stream and stops the model."""
        try:
            with self._http.stream(
                "POST", "/generate/stream", content=orjson.dumps(body), headers=_JSON
            ) as reply:
                if reply.status_code != 200:
                    raise _refusal(reply.status_code, reply.read())
                yield events(reply.iter_lines())
        except httpx2.ConnectError as error:
            raise self._not_running() from error
        except (httpx2.TransportError, BrokenEvent) as error:
            raise CommandError(f"the answer was cut off: {_cause(error)}; see the gateway's log") from error

    def _call(
        self, method: str, path: str, query: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> dict[str, Any]:
        try:
            reply = self._http.request(method, path, params=query, content=content)
        except httpx2.ConnectError as error:
            raise self._not_running() from error
        except httpx2.TransportError as error:
            raise CommandError(f"{self.url} does not answer like a gateway: {_cause(error)}") from error
        if reply.status_code >= 400:
            raise _refusal(reply.status_code, reply.content)
        try:
            value = orjson.loads(reply.content)
        except orjson.JSONDecodeError as error:
            raise CommandError(
                f"{self.url} is not a Conductor gateway; give the address of one with --host and --port"
            ) from error
        return value if isinstance(value, dict) else {}

    def _not_running(self) -> NotRunning:
        port = "" if self.port == DEFAULT_PORT else f" --port {self.port}"
        return NotRunning(
            f"the gateway is not running on {self.host}:{self.port}; start it with: conductor serve{port}"
        )


_JSON = {"content-type": "application/json"}


def _session(session: str) -> str:
    return f"/sessions/{quote(session, safe='')}"


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__


def _refusal(status: int, content: bytes) -> CommandError:
    try:
        error = orjson.loads(content)["error"]
        message, code = str(error["message"]), error.get("code")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return CommandError(f"the gateway answered {status}")
    # Errors in a table are wrong input of the user, also if the gateway has read it.
    return (WrongInput if code == "invalid_settings" else CommandError)(message, code)
