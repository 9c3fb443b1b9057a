"""Runs `conductor serve` as a separate process, on a free port and in its own state directory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil

from conductor_core.processes import is_alive
from handlers.diagnostics.loop_watch import LIMIT_S
from tests.loop_steps import LoopHeldError
from tests.torchserve_process import ROOT

RUNNING: list[Serving] = []
"""The gateways of `serving` whose block has not ended."""

START_S = 120.0
CPU_SECONDS = re.compile(r"cpu_s(?:econds)?\W+([\d.]+(?:e-\d+)?)")
STOP_S = 30.0


class Serving:
    """A running gateway with the TorchServe and the workers that it started."""

    def __init__(self, state: Path, *arguments: str, settings: Path, environment: dict[str, str]) -> None:
        self.state = state
        self.log = state.parent / f"{state.name}.log"
        self._told: set[str] = set()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "conductor.cli", "serve", "--port", "0", *arguments],
                cwd=ROOT,
                env={
                    **os.environ,
                    "CONDUCTOR_STATE_DIR": str(state),
                    "CONDUCTOR_SETTINGS": str(settings),
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        return str(self._wait("its address", self._run_file)["url"])

    def client(self, timeout_s: float = 120) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=timeout_s)

    def async_client(self, timeout_s: float = 120) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=self.url, timeout=timeout_s)

    def wait_until_ready(self) -> None:
        """Returns when every resident set serves; fails at once with the log if the gateway has ended."""
        with self.client() as client:
            self._wait("readiness", lambda: client.get("/health/ready").status_code == 200 or None)

    def model(self, category: str = "conversational_chat") -> dict[str, Any]:
        with self.client() as client:
            return dict(client.get(f"/models/{category}").json())

    def wait_for_model(self, category: str, **wanted: Any) -> dict[str, Any]:
        """Waits until the model's entry of `/models` has the wanted values and returns it."""

        def seen() -> dict[str, Any] | None:
            model = self.model(category)
            return model if all(model[name] == value for name, value in wanted.items()) else None

        return dict(self._wait(f"{category} with {wanted}", seen))

    def worker_client(self, pid: int) -> httpx2.AsyncClient:
        """A client of a worker's private socket."""
        run = self._wait("its address", self._run_file)["run"]
        transport = httpx2.AsyncHTTPTransport(uds=f"{run}/{pid}.sock")
        return httpx2.AsyncClient(transport=transport, base_url="http://worker")

    def torchserve(self) -> list[psutil.Process]:
        """The TorchServe process, then all its descendants."""
        run = self._wait("its address", self._run_file)
        leader = psutil.Process(run["torchserve"]["pid"])
        return [leader, *leader.children(recursive=True)]

    def processes(self) -> list[psutil.Process]:
        """The gateway and all its descendants, including workers that TorchServe restarted."""
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """The worker processes that are alive, adopted by the gateway or not."""
        found = {}
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                if "model_service_worker.py" in " ".join(process.cmdline()) and is_alive(process.pid):
                    found[process] = process.ppid()
        pids = {process.pid for process in found}
        # A child that a worker starts is called as the worker is until it has begun its own program.
        return [process for process, parent in found.items() if parent not in pids]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal to the gateway, waits for its end and returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def stop_in_order(self, number: int = signal.SIGTERM) -> None:
        """Sends a signal and asserts that the gateway ends with status 0, no process and no socket."""
        processes = self.processes()
        assert self.stop(number) == 0, self.log.read_text(encoding="utf-8")[-2000:]
        assert not psutil.wait_procs(processes, timeout=10)[1]
        assert not list((self.state / "run").glob("*.sock"))

    def kill(self) -> None:
        """Kills all remaining processes."""
        if self.process.poll() is None:
            for process in self.processes():
                process.kill()
            self.process.wait(STOP_S)

    def take_held(self) -> list[str]:
        """New log lines about steps of the gateway's or a worker's loop that took 50 ms of processor time.

        `openvino-step` is excepted: the library holds the interpreter's lock for its whole step.
        """
        logs = [self.log, *(self.state / "logs").rglob("*.log")]
        lines = (line for log in logs for line in _lines_of(log))
        held = (line for line in lines if "event_loop_held" in line and "openvino-step" not in line)
        long = (line for line in held if (used := CPU_SECONDS.search(line)) and float(used[1]) >= LIMIT_S)
        new = [line for line in long if line not in self._told]
        self._told.update(new)
        return new

    def _run_file(self) -> dict[str, Any] | None:
        file = self.state / "run.json"
        try:
            run = dict(json.loads(file.read_text(encoding="utf-8")))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return run if run["pid"] == self.process.pid else None

    def _wait(self, what: str, seen: Any) -> Any:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
            if (found := seen()) is not None:
                return found
            time.sleep(0.05)
        raise AssertionError(f"no {what} within {START_S:g} s:\n{self.log.read_text(encoding='utf-8')}")


def _lines_of(log: Path) -> list[str]:
    """Lines of a log; none if it was rotated since it was found: its server may still be running."""
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


@contextmanager
def serving(
    state: Path, *arguments: str, settings: Path = ROOT / "SETTINGS.md", **environment: str
) -> Iterator[Serving]:
    """A gateway that ends with the block: in order, without a process or socket left, and with no held loop.

    If the block fails, or has ended the gateway itself, only what remains is killed.
    """
    server = Serving(state, *arguments, settings=settings, environment=environment)
    RUNNING.append(server)
    try:
        yield server
        if server.process.poll() is None:
            server.stop_in_order()
        if held := server.take_held():
            raise LoopHeldError(held)
    finally:
        RUNNING.remove(server)
        server.kill()
