"""Gateway that a bench starts for itself: free port, temporary state folder, ended with the bench."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conductor.client import GatewayClient
from conductor.errors import CommandError
from conductor_core.files import last_text
from conductor_core.operator import PREFIX, OperatorSettings
from conductor_core.paths import StateDir

START_S = 600.0
STOP_S = 30.0
POLL_S = 0.25


@contextmanager
def own_gateway(settings: OperatorSettings) -> Iterator[tuple[GatewayClient, StateDir]]:
    """Start `conductor serve` on `settings`' table. CommandError has its log's last line if that fails."""
    with tempfile.TemporaryDirectory(prefix="conductor-bench-") as folder:
        state, port = StateDir.at(Path(folder) / "state"), free_port()
        log = Path(folder) / "serve.log"
        environment = {name: value for name, value in os.environ.items() if name != f"{PREFIX}DATABASE_URL"}
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command(settings, state, port), stdout=output, stderr=output, env=environment
            )
        try:
            with GatewayClient("127.0.0.1", port) as gateway:
                _wait_until_up(process, gateway, log)
                yield gateway, state
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def command(settings: OperatorSettings, state: StateDir, port: int) -> list[str]:
    """The command line of the bench's own gateway."""
    where = ["--port", str(port), "--state-dir", str(state.root), "--settings", str(settings.settings)]
    return [sys.executable, "-m", "conductor.cli", "serve", "--host", "127.0.0.1", *where]


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(process: subprocess.Popen[bytes], gateway: GatewayClient, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if gateway.is_up():
            return
        time.sleep(POLL_S)
    lines = last_text(log).strip().splitlines()
    raise CommandError(f"the bench's own gateway did not start: {lines[-1] if lines else 'no message'}")
