"""Logs without a reader or disk space: lines are dropped and counted, and nothing waits."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import structlog

from conductor_admin.telemetry import drain as drains
from conductor_admin.telemetry.drain import Drain, to_descriptor
from conductor_admin.telemetry.log_file import LogFile
from conductor_admin.telemetry.logs import configure_logs
from tests.plain_logs import log_plainly


def told(lines: int) -> bytes:
    return b"lost %d\n" % lines


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reads, writes = os.pipe()
    try:
        yield reads, writes
    finally:
        os.close(reads)
        os.close(writes)


def fill(writes: int) -> None:
    """Fill a pipe, so that the next write blocks."""
    os.set_blocking(writes, False)
    try:
        while True:
            os.write(writes, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(writes, True)


def test_a_full_pipe_costs_lines_and_tells_how_many(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drains, "MOST_BYTES", 1000)
    reads, writes = pipe
    fill(writes)
    drain = Drain(to_descriptor(writes), told, "test")
    for _ in range(500):
        drain.put(b"0123456789" * 10 + b"\n")
    assert drain._bytes <= 1000
    text = b""
    while b"lost" not in text:
        text += os.read(reads, 2**16)
    lost = int(text.partition(b"lost ")[2].partition(b"\n")[0])
    drain.close(10)
    os.set_blocking(reads, False)
    with contextlib.suppress(BlockingIOError):
        text += os.read(reads, 2**16)
    assert lost >= 480
    assert lost + text.count(b"0123456789\n") == 500


def test_a_drain_that_is_stuck_does_not_hold_its_end(pipe: tuple[int, int]) -> None:
    reads, writes = pipe
    fill(writes)
    drain = Drain(to_descriptor(writes), told, "test")
    drain.put(b"x\n")
    drain.close(0.05)
    assert drain._thread.daemon
    assert drain._thread.is_alive()
    os.read(reads, 2**16)
    drain._thread.join(10)


def test_a_full_disk_costs_lines_and_is_told_when_there_is_room() -> None:
    written: list[bytes] = []
    full = threading.Event()
    full.set()
    refused = threading.Semaphore(0)

    def write(line: bytes) -> None:
        if full.is_set():
            refused.release()
            raise OSError(28, "No space left on device")
        written.append(line)

    drain = Drain(write, told, "test")
    for number in range(3):
        drain.put(b"%d\n" % number)
        assert refused.acquire(timeout=10)
    full.clear()
    drain.put(b"after\n")
    drain.close(10)
    assert written == [b"lost 3\n", b"after\n"]


def test_a_file_is_renamed_when_it_is_full(tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"
    file = LogFile(path, most_bytes=10, kept=2)
    for line in (b"first..\n", b"second.\n", b"third..\n", b"fourth.\n"):
        file.write(line)
    file.close()
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {
        "gateway.log": b"fourth.\n",
        "gateway.log.1": b"third..\n",
        "gateway.log.2": b"second.\n",
    }


def test_a_line_that_was_written_in_part_does_not_spoil_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gateway.log"
    file = LogFile(path, most_bytes=1000, kept=1)
    write = os.write
    monkeypatch.setattr(os, "write", lambda number, data: write(number, data[:3]))
    with pytest.raises(OSError, match="No space"):
        file.write(b"torn line\n")
    monkeypatch.undo()
    file.write(b"whole\n")
    file.close()
    assert path.read_bytes() == b"tor\nwhole\n"


def test_the_file_is_written_while_standard_error_is_full(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, writes = pipe
    fill(writes)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setattr("conductor_admin.telemetry.logs.to_descriptor", lambda number: to_descriptor(writes))
    close = configure_logs(tmp_path, "INFO")
    try:
        for number in range(1000):
            structlog.get_logger("conductor_admin.test").info("said", number=number)
    finally:
        close()
        root.handlers[:], root.level = before
        log_plainly()
    lines = [orjson.loads(line) for line in (tmp_path / "gateway.log").read_text().splitlines()]
    assert [line["number"] for line in lines] == list(range(1000))
    os.read(reads, 2**16)
