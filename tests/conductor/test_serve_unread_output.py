"""A real `conductor serve` with unread output: it keeps serving, and ends in the usual time."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.source_tree import ROOT

pytestmark = pytest.mark.slow


@contextmanager
def full_pipe() -> Iterator[int]:
    """Write end of a full pipe."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    try:
        while True:
            os.write(writes, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(writes, True)
    try:
        yield writes
    finally:
        os.close(reads)
        os.close(writes)


def port_of(state: Path, process: subprocess.Popen[bytes]) -> int:
    """The port in the run file, once there is one."""
    for _ in range(1200):
        assert process.poll() is None
        files = list(state.rglob("run.json"))
        if files:
            return int(json.loads(files[0].read_text())["port"])
        time.sleep(0.05)
    raise AssertionError("no run file in a minute")


def test_a_server_whose_output_nobody_reads_serves_and_ends() -> None:
    with tempfile.TemporaryDirectory(prefix="ct-") as folder, full_pipe() as writes:
        process = subprocess.Popen(
            [sys.executable, "-m", "conductor", "--skip-model-loading", "--port", "0"],
            cwd=ROOT,
            env={**os.environ, "CONDUCTOR_STATE_DIR": folder},
            stdin=subprocess.DEVNULL,
            stdout=writes,
            stderr=writes,
        )
        try:
            client = http.client.HTTPConnection("127.0.0.1", port_of(Path(folder), process), timeout=30)
            for _ in range(500):
                client.request("GET", "/models")
                answer = client.getresponse()
                answer.read()
                assert answer.status == 200
            client.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            log = (Path(folder) / "logs" / "gateway.log").read_text().splitlines()
            assert sum('"path":"/models"' in line for line in log) == 500
            assert "gateway_ended" in log[-1]
        finally:
            process.kill()
            process.wait()
