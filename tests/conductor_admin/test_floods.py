"""Floods beside a normal client, on a real `conductor serve`: each is answered, and memory stays bounded."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from tests.conductor.test_serve_unread_output import port_of
from tests.source_tree import ROOT

pytestmark = pytest.mark.proof

MB = 2**20
CHUNKED = b"POST /check HTTP/1.1\r\nHost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n"


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def _send(port: int, head: bytes, piece: bytes, times: int) -> None:
    with contextlib.suppress(OSError), _connected(port) as client:
        client.sendall(head)
        for _ in range(times):
            client.sendall(piece)


def trailers(port: int) -> None:
    for _ in range(4):
        _send(port, CHUNKED + b"1\r\n{\r\n0\r\n", b"x-a: " + b"b" * 1000 + b"\r\n", 700_000)


def extensions(port: int) -> None:
    for _ in range(4):
        _send(port, CHUNKED + b"5;", b"x" * MB, 700)
        _send(port, CHUNKED, b"1\r\n \r\n" * 100_000, 100)


def large_then_silent(port: int) -> None:
    clients = []
    for _ in range(100):
        client = _connected(port)
        clients.append(client)
        with contextlib.suppress(OSError):
            client.sendall(b"POST /check HTTP/1.1\r\nHost: 127.0.0.1\r\ncontent-length: 25000000\r\n\r\n")
            for _ in range(23):
                client.sendall(b" " * MB)
    for client in clients:
        client.close()


def containers(port: int) -> None:
    for inner in (b"[],", b"{},", b"1,", b'"",'):
        body = b'{"text":"a","options":{"x":[' + inner * (23 * MB // len(inner)) + b"1]}}"
        head = b"POST /check HTTP/1.1\r\nHost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(body)
        with _connected(port) as client:
            client.sendall(head + body)
            assert client.recv(100).startswith(b"HTTP/1.1 400")


def slow_bodies(port: int) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_connected(port)) for _ in range(500)]
        for client in clients:
            client.sendall(b"POST /check HTTP/1.1\r\nHost: 127.0.0.1\r\ncontent-length: 100000\r\n\r\n{")
        for client in clients:
            client.settimeout(60)
            assert client.recv(100).startswith(b"HTTP/1.1 408")


@contextlib.contextmanager
def served() -> Iterator[tuple[int, psutil.Process]]:
    """The port and process of a gateway without models."""
    with tempfile.TemporaryDirectory(prefix="ct-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "conductor", "--skip-model-loading", "--port", "0"],
            cwd=ROOT,
            env={**os.environ, "CONDUCTOR_STATE_DIR": folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield port_of(Path(folder), process), psutil.Process(process.pid)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("flood", "growth"),
    [(trailers, 60), (extensions, 60), (large_then_silent, 400), (containers, 150), (slow_bodies, 60)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_normal_client_is_answered_beside_a_flood(flood: Callable[[int], None], growth: int) -> None:
    with served() as (port, process), contextlib.ExitStack() as stack:
        client = stack.enter_context(
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30))
        )
        asked = orjson.dumps({"text": "x"})

        def ask() -> None:
            client.request("POST", "/check", asked, {"content-type": "application/json"})
            answer = client.getresponse()
            text = answer.read()
            assert answer.status == 200, text

        for _ in range(20):
            ask()
        before = most = process.memory_info().rss
        failed: list[BaseException] = []

        def run() -> None:
            try:
                flood(port)
            except BaseException as error:
                failed.append(error)

        flooding = threading.Thread(target=run)
        flooding.start()
        answered = 0
        while flooding.is_alive():
            ask()
            answered += 1
            most = max(most, process.memory_info().rss)
            flooding.join(0.02)
        assert not failed, failed
        assert answered > 0
        print(flood.__name__, f"{(most - before) / MB:.0f} MB more at most, {answered} answers beside it")
        assert most - before < growth * MB
