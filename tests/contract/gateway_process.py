"""`conductor serve` as a process of its own, on a free port and a state directory of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import psutil

ROOT = Path(__file__).resolve().parents[2]
START_S = 240


class GatewayProcess:
    """A running gateway; `pids` are those of TorchServe and the workers that were seen."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.state = folder / "state"
        self.output = folder / "output"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("CONDUCTOR_", "TS_"))}
        command = [sys.executable, "-m", "conductor", "--port", "0", "--state-dir", str(self.state)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--settings", str(ROOT / "SETTINGS.md"), *options],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def run_file(self) -> dict[str, Any]:
        return dict(orjson.loads((self.state / "run.json").read_bytes()))

    @property
    def torchserve(self) -> int:
        return int(self.run_file["torchserve"]["pid"])

    def session(self) -> list[int]:
        """Pids of TorchServe and of everything that it started."""
        leader = self.torchserve
        return [pid for pid in psutil.pids() if _session_of(pid) == leader]

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=self.run_file["url"], timeout=START_S, trust_env=False)

    def worker_client(self, pid: int) -> httpx2.AsyncClient:
        """A client of a worker's private socket."""
        transport = httpx2.AsyncHTTPTransport(uds=f"{self.run_file['run']}/{pid}.sock")
        return httpx2.AsyncClient(transport=transport, base_url="http://worker")

    def wait_until_it_answers(self, path: str = "/health/ready") -> None:
        """Return once `path` answers 200; fail at once with the output if the gateway has ended."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.output.read_text()
            try:
                if httpx2.get(self.run_file["url"] + path, trust_env=False).status_code == 200:
                    return
            except (OSError, httpx2.TransportError, KeyError, orjson.JSONDecodeError):
                pass
            time.sleep(0.1)
        raise AssertionError(self.output.read_text())

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=60)


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


@contextmanager
def gateway(folder: Path, *options: str) -> Iterator[GatewayProcess]:
    """A gateway that is ended with all that it started, whatever the test does."""
    process = GatewayProcess(folder, *options)
    try:
        yield process
    finally:
        try:
            process.end()
        except subprocess.TimeoutExpired:
            process.process.kill()
            process.process.wait()


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for the names of Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="cg-") as name:
        yield Path(name)
