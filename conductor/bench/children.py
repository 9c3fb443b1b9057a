"""Child processes for the two sides of a bench, with JSON lines as protocol; CPU time of the gateway's side.

Knows processes, nothing about models. A child waits on its standard input during the other side's turn.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson
import psutil

from conductor.errors import CommandError
from conductor_core.files import last_text

END_WAIT_S = 10.0


class BenchChild:
    """One script under this Python; `name` is for error messages, its standard error goes to `log`."""

    def __init__(self, name: str, script: Path, setup: Mapping[str, Any], log: IO[bytes]) -> None:
        self._name = name
        self._log = log
        # -P: the script's folder must not come before the library's own modules.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        self._send(setup)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(END_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]

    def ready(self) -> None:
        """Wait until the child has loaded its model."""
        self._receive()

    def turn(self, prompts: Sequence[Any], tokens: int) -> dict[str, Any]:
        """One turn: `{"streams": [...], "cpu_s": seconds}`."""
        self._send({"prompts": prompts, "tokens": tokens})
        return self._receive()

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            self._process.stdin.write(orjson.dumps(message) + b"\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError as error:
            raise self._died() from error

    def _receive(self) -> dict[str, Any]:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise self._died()
        answer: dict[str, Any] = orjson.loads(line)
        return answer

    def _died(self) -> CommandError:
        code = self._process.wait()
        lines = last_text(Path(self._log.name)).strip().splitlines()
        return CommandError(
            f"the {self._name} process ended with {code}: {lines[-1] if lines else 'no message'}"
        )


class ServedProcesses:
    """Gateway, JVM and workers of a running gateway, found upwards from the worker processes.

    A worker's parent is TorchServe's JVM, whose parent is its guard, whose parent is the gateway.
    """

    def __init__(self, worker_pids: Sequence[int]) -> None:
        self._workers = [psutil.Process(pid) for pid in worker_pids]
        ancestors = self._workers[0].parents() if self._workers else []
        place = next((i for i, one in enumerate(ancestors) if one.name() == "java"), None)
        self._jvm = ancestors[place : place + 1] if place is not None else []
        self._gateway = ancestors[place + 2 : place + 3] if place is not None else []

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time in seconds so far, by kind; workers include their children."""
        workers = [one for worker in self._workers for one in (worker, *worker.children(recursive=True))]
        kinds = {"gateway": self._gateway, "jvm": self._jvm, "worker": workers}
        return {kind: sum(map(_cpu, processes)) for kind, processes in kinds.items()}


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
