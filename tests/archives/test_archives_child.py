"""Child processes of a build: records, refusals, crashes and stops."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from archives.child import run_job, stream_child
from archives.errors import BuildCancelled, BuildError
from tests.archives.samples import Recorder

_JOB = """
import sys
from archives.errors import BuildError
from archives.job import serve_job

def work(request, report):
    print("library noise")
    report("convert", 1, 2, "half")
    if request["do"] == "refuse":
        raise BuildError("no", "yes")
    if request["do"] == "crash":
        raise ZeroDivisionError("deep inside")
    return {"twice": request["n"] * 2}

serve_job(work)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "tiny_job.py").write_text(_JOB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "tiny_job"


def _run(module: str, tmp_path: Path, progress: Recorder, **request: object) -> dict[str, object]:
    return run_job(module, request, log=tmp_path / "log", progress=progress, stop=threading.Event())


def test_a_job_reports_and_answers_and_its_noise_goes_to_the_log(module: str, tmp_path: Path) -> None:
    progress = Recorder()

    assert _run(module, tmp_path, progress, do="double", n=21) == {"twice": 42}
    assert progress.seen == [("convert", 1, 2, "half")]
    assert (tmp_path / "log").read_text() == "library noise\n"


def test_a_refusal_keeps_its_words(module: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^no; yes$"):
        _run(module, tmp_path, Recorder(), do="refuse")


def test_a_crash_is_one_line_with_the_last_of_the_log(module: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="ended with status 1: ZeroDivisionError: deep inside; see "):
        _run(module, tmp_path, Recorder(), do="crash")


def test_a_stop_kills_the_child(tmp_path: Path) -> None:
    stop = threading.Event()
    pids: list[int] = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        stop.set()

    code = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
    with pytest.raises(BuildCancelled):
        stream_child([sys.executable, "-c", code], on_line, log=tmp_path / "log", stop=stop)

    assert not Path(f"/proc/{pids[0]}").exists()
