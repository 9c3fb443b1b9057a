"""Logs of workers are few and small, and have no messages of libraries."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from handlers.checks.text.bibliography import read_bibliography
from handlers.diagnostics import library_log
from handlers.diagnostics.library_log import KEPT_LOGS, rotate, sweep
from handlers.diagnostics.library_text import WithoutWords, hide_library_text

PROMPT = "the words of a user 5150"
SMALL = 1000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_log, "LOG_BYTES", SMALL)


def test_a_log_that_grew_begins_anew_and_its_last_part_stays(tmp_path: Path) -> None:
    log = tmp_path / "w.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"a" * SMALL)
        rotate(log)
        assert log.stat().st_size == SMALL
        writer.write(b"b" * SMALL)
        rotate(log)
        writer.write(b"new")
    assert log.read_bytes() == b"new"
    assert (tmp_path / "w.log.1").read_bytes() == b"b" * SMALL
    assert (tmp_path / "w.log.1").stat().st_mode & 0o777 == 0o600


def test_a_log_is_emptied_where_its_copy_cannot_be_kept(tmp_path: Path) -> None:
    log = tmp_path / "w.log"
    log.write_bytes(b"a" * 2 * SMALL)
    (tmp_path / "w.log.1").mkdir()
    rotate(log)
    assert log.stat().st_size == 0
    rotate(tmp_path / "nowhere.log")


def test_a_log_does_not_outgrow_its_bound_while_it_is_written(tmp_path: Path) -> None:
    log, done = tmp_path / "w.log", threading.Event()

    def write() -> None:
        with log.open("ab", buffering=0) as writer:
            for _ in range(2000):
                writer.write(b"a line of a library\n")
        done.set()

    threading.Thread(target=write).start()
    while not done.is_set():
        rotate(log)
    rotate(log)
    assert sum(part.stat().st_size for part in tmp_path.iterdir()) <= 2 * SMALL


def ended_pids(count: int) -> list[int]:
    """Pids of no process."""
    highest = int(Path("/proc/sys/kernel/pid_max").read_text())
    return list(range(highest + 1, highest + 1 + count))


def test_logs_of_ended_workers_are_few_and_the_newest(tmp_path: Path) -> None:
    pids = ended_pids(KEPT_LOGS + 5)
    for age, pid in enumerate(pids):
        for name in (f"chat-{pid}.log", f"chat-{pid}.log.1"):
            (tmp_path / name).touch()
            os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    others = [f"chat-{os.getpid()}.log", "gateway.log", "torchserve.log", "audit.jsonl"]
    for name in others:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    sweep(tmp_path)
    kept = {f"chat-{pid}.log{part}" for pid in pids[:KEPT_LOGS] for part in ("", ".1")}
    assert {path.name for path in tmp_path.iterdir()} == kept | set(others)


def test_a_worker_that_starts_sweeps_and_keeps_its_log_small(tmp_path: Path) -> None:
    for pid in ended_pids(KEPT_LOGS + 5):
        (tmp_path / f"chat-{pid}.log").touch()
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from handlers.diagnostics import library_log\n"
        "library_log.LOG_BYTES, library_log._LOOK_S = 1000, 0.01\n"
        f"log = Path({str(tmp_path)!r}) / f'chat-{{os.getpid()}}.log'\n"
        "library_log.redirect_output(log)\n"
        "library_log.keep_small(log)\n"
        "second = log.with_name(log.name + '.1')\n"
        "until = time.monotonic() + 20\n"
        "while not second.exists() and time.monotonic() < until:\n"
        "    print('a line of a library' * 10)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    logs = sorted(path.name for path in tmp_path.glob("*.log"))
    assert len(logs) == KEPT_LOGS + 1
    assert list(tmp_path.glob("*.log.1"))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The output of the root logger with messages of libraries hidden."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging.root, "handlers", [handler])
    monkeypatch.setattr(logging, "lastResort", logging.NullHandler())
    hide_library_text([handler])
    yield text
    handler.close()


def test_a_library_cannot_write_words_into_a_log(written: io.StringIO) -> None:
    library = logging.getLogger("some.library")
    for message, values in ((PROMPT, ()), (f"cannot parse {PROMPT}", ()), ("cannot parse %s", (PROMPT,))):
        library.warning(message, *values)
    try:
        raise ValueError(PROMPT)
    except ValueError:
        library.exception("broken: %s", PROMPT)
    library.info("cannot parse %s", PROMPT)
    assert "5150" not in written.getvalue()
    *_, last = written.getvalue().splitlines()
    assert "ValueError from" in last
    assert "test_library_log.py" in last


def test_one_place_of_a_library_is_told_once_a_minute(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1e6
    monkeypatch.setattr("handlers.diagnostics.library_text.time.monotonic", lambda: now)
    for second in range(0, 120, 10):
        now = 1e6 + second
        logging.getLogger("some.library").warning(PROMPT)
    assert len(written.getvalue().splitlines()) == 2


def test_our_own_lines_are_written_as_they_are(written: io.StringIO) -> None:
    for _ in range(3):
        logging.getLogger("conductor_admin.x").warning("a line of ours")
    assert written.getvalue() == "a line of ours\n" * 3


def test_a_text_that_a_library_complains_of_at_each_word_leaves_few_lines(written: io.StringIO) -> None:
    text = "@article{a, title={" + "\\frac " * 300 + "5150}, year={2020}}"
    assert read_bibliography(text)
    assert len(written.getvalue()) < 1000
    assert "5150" not in written.getvalue()


def test_a_warning_is_told_without_its_words(
    written: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    warnings.showwarning(UserWarning(PROMPT), UserWarning, "/lib/pandas/core.py", 7)
    told = capsys.readouterr().err
    assert told == "UserWarning at lib/pandas/core.py:7 (text withheld)\n"


def test_a_handler_gets_one_filter_however_often_it_is_asked_for(written: io.StringIO) -> None:
    handler = logging.root.handlers[0]
    hide_library_text([handler])
    assert len([f for f in handler.filters if isinstance(f, WithoutWords)]) == 1


def test_a_process_withholds_the_words_of_handlers_that_libraries_made_and_of_the_last_resort() -> None:
    program = (
        "import logging\n"
        "from handlers.diagnostics.library_text import hide_library_text\n"
        "library = logging.getLogger('own.handler')\n"
        "library.addHandler(logging.StreamHandler())\n"
        "hide_library_text()\n"
        "library.warning('secret 5150')\n"
        "logging.getLogger('no.handler').warning('secret 5150')\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "own.handler" in done.stderr
    assert "no.handler" in done.stderr
    assert "5150" not in done.stderr
