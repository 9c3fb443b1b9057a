"""Runs child processes of the build: passes on their output line by line, and ends them with the builder.

Slow and untrusted work (pip, downloads, conversion) runs in child processes, so that no inference library is
imported here, memory is freed, and a stop or a crash of the builder leaves no process behind.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from archives.errors import BuildCancelled, BuildError
from archives.progress import BuildProgress
from conductor_core.files import last_text

_STOP_CHECK_S = 0.5
_SHOWN_LOG = 300


def stream_child(
    command: Sequence[str],
    on_line: Callable[[str], None],
    *,
    log: Path,
    stop: threading.Event,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
) -> int:
    """Runs `command` to its end and returns its exit status; every line of its output goes to `on_line`.

    Its standard error is appended to `log`. BuildCancelled when `stop` is set. The child's whole process
    group has ended in any case, also after an error.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(stdin.encode())
            child.stdin.close()
            for line in _lines(child.stdout, stop):
                on_line(line)
            return child.wait()
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)


def _lines(stream: IO[bytes], stop: threading.Event) -> Iterator[str]:
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if stop.is_set():
                raise BuildCancelled
            if not selector.select(_STOP_CHECK_S):
                continue
            piece = os.read(stream.fileno(), 65536)
            if not piece:
                break
            *whole, pending = (pending + piece).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
    if pending:
        yield pending.decode(errors="replace")


def run_job(
    module: str,
    request: Mapping[str, Any],
    *,
    log: Path,
    progress: BuildProgress,
    stop: threading.Event,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Runs `python -m module` with a JSON `request` and returns its JSON result (see `archives.job`).

    BuildError has the child's own message if it refuses, or the last line of its log if it crashes.
    """
    answer = _Answer(progress)
    # Unbuffered: the last line of the log is the cause only if lines are in the order of printing.
    command = [sys.executable, "-u", "-m", module]
    status = stream_child(
        command, answer.line, log=log, stop=stop, stdin=json.dumps(request), environment=environment
    )
    if answer.refusal is not None:
        raise answer.refusal
    if status != 0 or answer.result is None:
        killed = status == -signal.SIGKILL
        ending = "was killed (out of memory?)" if killed else f"ended with status {status}"
        raise BuildError(f"{module} {ending}: {last_line(log)}", f"see {log}")
    return answer.result


class _Answer:
    def __init__(self, progress: BuildProgress) -> None:
        self._progress = progress
        self.result: dict[str, Any] | None = None
        self.refusal: BuildError | None = None

    def line(self, line: str) -> None:
        record = json.loads(line)
        if "progress" in record:
            self._progress.update(*record["progress"])
        elif "refusal" in record:
            self.refusal = BuildError(*record["refusal"])
        else:
            self.result = record["result"]


def last_line(log: Path) -> str:
    """The last non-empty line of `log`, shortened."""
    lines = last_text(log).strip().splitlines()
    return lines[-1].strip()[:_SHOWN_LOG] if lines else "no message"
