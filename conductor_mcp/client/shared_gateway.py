"""The gateway of a state directory for its clients on this machine: found by its run file, else started.

A started gateway listens on a free port of loopback, belongs to no terminal, and ends with the last of its
clients (`conductor_mcp.client_lock`). A gateway that was started by hand is used as it is and outlives all
clients.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import orjson

from conductor_core.files import last_text, open_private, read_bounded
from conductor_core.operator import OperatorSettings
from conductor_core.owner import owner_headers
from conductor_core.paths import ProjectPaths, StateDir
from conductor_core.processes import is_alive
from conductor_core.run_file import LARGEST_BYTES, ProcessName
from conductor_mcp.client_lock import ClientLock, hold_gateway, only_starter

START_S = 120.0
_LOOK_S = 0.1
_ANSWER_S = 5.0
_SHOWN_LINES = 5
_BUSY = "already runs on"  # in the message of a gateway whose state directory is in use


class GatewayError(Exception):
    """There is no gateway and none could be started; the message has the cause in a few lines."""


@dataclass(frozen=True, slots=True)
class Address:
    """URL of `/mcp`, and the headers that authenticate the gateway's owner."""

    url: str
    headers: dict[str, str]


class SharedGateway:
    """One client's hold on the gateway of its state directory; `release` it at the end."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = ProjectPaths.at(settings.settings).settings
        self._state = StateDir.at(settings.state_dir)
        self._hold: ClientLock | None = None

    async def address(self) -> Address:
        """Address of a gateway that answers, started if there is none. Raises GatewayError."""
        if self._hold is None:
            self._state.create()
            self._hold = await hold_gateway(self._state)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if url := self._running() or await self._start():
                # A gateway that is ending takes no connections.
                async with httpx2.AsyncClient(timeout=_ANSWER_S, trust_env=False) as http:
                    with suppress(httpx2.TransportError):
                        await http.get(f"{url}/health/live")
                        return Address(f"{url}/mcp", owner_headers(self._state))
            await asyncio.sleep(_LOOK_S)
        raise GatewayError(f"no gateway answered within {START_S:g} s; see {self._log}")

    def release(self) -> None:
        """Release the hold, so that the gateway may end if no other client holds it."""
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    @property
    def _log(self) -> Path:
        return self._state.logs / "started.log"

    def _running(self) -> str | None:
        """The address in the run file, if the process that wrote it is still there."""
        try:
            run = orjson.loads(read_bounded(self._state.run_file, LARGEST_BYTES))
            name, url = ProcessName(int(run["pid"]), int(run["started"])), str(run["url"])
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return None
        return url if is_alive(name.pid) and not name.was_replaced else None

    async def _start(self) -> str | None:
        """URL of the started gateway; None if another gateway took the state directory first."""
        async with only_starter(self._state):
            if url := self._running():
                return url
            child = self._spawn()
            while not (url := self._running()):
                if os.waitpid(child, os.WNOHANG) != (0, 0):
                    output = last_text(self._log).strip()
                    if _BUSY in output:
                        return None
                    last_lines = "\n".join(output.splitlines()[-_SHOWN_LINES:])
                    raise GatewayError(last_lines or "the gateway exited immediately")
                await asyncio.sleep(_LOOK_S)
            return url

    def _spawn(self) -> int:
        # Not subprocess.Popen: the child must outlive this process if other clients hold it.
        command = [sys.executable, "-m", "conductor.cli", "serve", "--while-used"]
        command += ["--host", "127.0.0.1", "--port", "0"]
        command += ["--state-dir", str(self._state.root), "--settings", str(self._settings)]
        os.close(open_private(self._log, os.O_WRONLY))  # raises for a pipe, which could block the child
        log = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self._log), log, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        return os.posix_spawn(sys.executable, command, os.environ, file_actions=actions, setsid=True)
