"""Ensures one gateway per state directory: its lock, its run file, and processes that a killed gateway left.

The run file has the gateway's address and the TorchServe that it started. A process is identified by pid and
start time, because pids are reused; the kernel counts the time since boot, so clock changes do not matter.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog

from conductor_core.files import append_line, fault, open_private, read_bounded, write_whole
from conductor_core.paths import StateDir
from conductor_core.processes import kill_session, start_ticks, wait_until_gone

log = structlog.get_logger()

LARGEST_BYTES = 64 * 2**10

_GONE_TIMEOUT_S = 10.0


class StartError(Exception):
    """The gateway cannot start; the message is one line with the remedy."""


@dataclass(frozen=True, slots=True)
class ProcessName:
    """Identity of a process, which differs from a later process with its pid.

    `started` is in ticks since boot.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessName:
        """The identity of the process `pid`; ProcessLookupError if there is none."""
        started = start_ticks(pid)
        if started is None:
            raise ProcessLookupError(pid)
        return cls(pid, started)

    @property
    def was_replaced(self) -> bool:
        """True if another process has the pid now."""
        return start_ticks(self.pid) not in (None, self.started)


@contextlib.contextmanager
def only_gateway(state: StateDir) -> Iterator[None]:
    """Holds the lock of the state directory; StartError if another gateway holds it."""
    with os.fdopen(open_private(state.lock_file, os.O_RDWR | os.O_APPEND), "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = lock.read(20).strip() or "unknown"
            raise StartError(
                f"a gateway (pid {holder}) already runs on {state.root}: stop it, or set CONDUCTOR_STATE_DIR"
            ) from error
        lock.truncate(0)
        append_line(lock.fileno(), state.lock_file, str(os.getpid()).encode())
        yield


class RunFile:
    """`<state dir>/run.json` of the gateway that holds the lock."""

    def __init__(self, state: StateDir) -> None:
        self._path = state.run_file
        self._content: dict[str, Any] = {}

    def write(self, **fields: Any) -> None:
        """Adds `fields` and replaces the file atomically."""
        self._content.update(fields)
        write_whole(self._path, orjson.dumps(self._content, option=orjson.OPT_INDENT_2), keep=False)

    def torchserve_spawned(self, pid: int) -> None:
        """Records the TorchServe that has just been started.

        A write error is only logged: the record matters only after a kill -9 of the gateway.
        """
        try:
            self.write(torchserve=asdict(ProcessName.of(pid)))
        except ProcessLookupError:
            return
        except OSError as error:
            log.error("run_file_not_written", cause=fault(error))

    def remove(self) -> None:
        """Removes the file when the gateway ends."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def kill_leftovers(path: Path) -> bool:
    """Kills the TorchServe that the run file at `path` names, and its workers; True if it named one."""
    try:
        torchserve = orjson.loads(read_bounded(path, LARGEST_BYTES))["torchserve"]
        name = ProcessName(int(torchserve["pid"]), int(torchserve["started"]))
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        _remove(path)
        return False
    if not name.was_replaced:
        # If TorchServe itself has ended, its workers still form its session, which prevents reuse of the pid.
        wait_until_gone(kill_session(name.pid), _GONE_TIMEOUT_S)
    _remove(path)
    return True


def _remove(path: Path) -> None:
    with contextlib.suppress(IsADirectoryError):  # reported when it is written
        path.unlink(missing_ok=True)
