"""Facts about processes of this machine that the gateway started, directly or through TorchServe."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import psutil

_POLL_S = 0.01
IDLE_SHARE = 0.05
"""Share of one processor below which a process is idle; answering a health check costs a worker far less."""


@dataclass(frozen=True, slots=True)
class Activity:
    """A process at one moment: the states of its threads as in /proc, and its processor time in seconds."""

    at: float
    states: frozenset[str]
    cpu_s: float

    @property
    def is_stopped(self) -> bool:
        return self.states == {"T"}

    def is_idle_since(self, earlier: Activity | None) -> bool:
        """True if the process was idle from `earlier` until now; False if that is not known."""
        if earlier is None or self.at <= earlier.at or self.states & {"R", "D"}:
            return False
        return self.cpu_s - earlier.cpu_s < IDLE_SHARE * (self.at - earlier.at)


def is_alive(pid: int) -> bool:
    """True if `pid` runs; a zombie does not."""
    try:
        os.kill(pid, 0)
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
    except PermissionError:
        return True


def start_ticks(pid: int) -> int | None:
    """The start time of `pid` in clock ticks since boot; None if it has ended."""
    try:
        return int(_stat(Path(f"/proc/{pid}"))[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def activity(pid: int) -> Activity | None:
    """The current activity of `pid`; None if it has ended. Reads one file per thread."""
    folder, now, states = Path(f"/proc/{pid}"), time.monotonic(), set()
    try:
        for thread in (folder / "task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                states.add(_stat(thread)[0])
        fields = _stat(folder)
    except (FileNotFoundError, ProcessLookupError):
        return None
    ticks = int(fields[11]) + int(fields[12])
    return Activity(now, frozenset(states), ticks / os.sysconf("SC_CLK_TCK"))


def _stat(folder: Path) -> list[str]:
    """The fields of a `stat` file from the state on; the name before it may have any character."""
    text = (folder / "stat").read_text(encoding="ascii", errors="replace")
    return text.rpartition(")")[2].split()


def kill_session(leader: int) -> list[int]:
    """Sends SIGKILL to all processes of the session of `leader`; TorchServe takes up to a minute on SIGTERM.

    Returns their pids; they may take a moment to end.
    """
    killed: list[int] = []
    # Repeat until no new process is found: one may have forked after it was listed.
    while found := [pid for pid in psutil.pids() if pid not in killed and _session_of(pid) == leader]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed += found
    return killed


def wait_until_gone(pids: Collection[int], seconds: float) -> bool:
    """Blocks until none of `pids` runs, at most `seconds`; True if all have ended."""
    deadline = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def families(pids: Collection[int]) -> set[int]:
    """`pids` and all their descendants."""
    found = set(pids)
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return found


def end_all(pids: Collection[int], seconds: float, *, grace_s: float | None = None) -> bool:
    """Blocks until none of `pids` runs; kills those that still run after `grace_s` (by default `seconds`).

    Returns at most `seconds` after the kill; True if all have ended.
    """
    if wait_until_gone(pids, seconds if grace_s is None else grace_s):
        return True
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return wait_until_gone(pids, seconds)


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None
