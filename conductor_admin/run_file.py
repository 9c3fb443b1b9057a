"""One gateway to a state directory: its lock, its run file, and what a killed gateway left running.

The run file says where the gateway listens and which TorchServe it started. A process is named by pid and
start time, because pids are used again; the time is the kernel's own, which no change of the clock moves.
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

from conductor_admin.processes import kill_session, start_ticks, wait_until_gone
from conductor_admin.torchserve_config import StartError
from conductor_core.paths import StateDir

_GONE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class ProcessName:
    """A process that cannot be mistaken for a later one with its pid; `started` is in ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessName:
        """The process `pid`; ProcessLookupError where there is none."""
        started = start_ticks(pid)
        if started is None:
            raise ProcessLookupError(pid)
        return cls(pid, started)

    @property
    def was_replaced(self) -> bool:
        """Whether another process has the pid now."""
        return start_ticks(self.pid) not in (None, self.started)


@contextlib.contextmanager
def only_gateway(state: StateDir) -> Iterator[None]:
    """Hold the state directory; StartError if another gateway does."""
    with state.lock_file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise StartError(
                f"a gateway (pid {holder}) already runs on {state.root}: end it, or set CONDUCTOR_STATE_DIR"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


class RunFile:
    """`<state dir>/run.json` of the gateway that holds the lock."""

    def __init__(self, state: StateDir) -> None:
        self._path = state.run_file
        self._content: dict[str, Any] = {}

    def write(self, **fields: Any) -> None:
        """Add `fields` and write the file anew, all or nothing."""
        self._content.update(fields)
        unnamed = self._path.with_suffix(".new")
        unnamed.write_bytes(orjson.dumps(self._content, option=orjson.OPT_INDENT_2))
        unnamed.replace(self._path)

    def torchserve_spawned(self, pid: int) -> None:
        """Note the TorchServe that has just been started."""
        with contextlib.suppress(ProcessLookupError):
            self.write(torchserve=asdict(ProcessName.of(pid)))

    def remove(self) -> None:
        """The end of an orderly gateway."""
        self._path.unlink(missing_ok=True)


def kill_leftovers(path: Path) -> bool:
    """Kill the TorchServe and the workers that the run file at `path` names; whether it named any."""
    try:
        torchserve = orjson.loads(path.read_bytes())["torchserve"]
        name = ProcessName(int(torchserve["pid"]), int(torchserve["started"]))
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        path.unlink(missing_ok=True)
        return False
    if not name.was_replaced:
        # Where TorchServe itself is gone, its workers still form its session, which keeps the pid from reuse.
        wait_until_gone(kill_session(name.pid), _GONE_TIMEOUT_S)
    path.unlink(missing_ok=True)
    return True
