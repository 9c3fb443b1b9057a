"""A test that holds an event loop is run again before it fails; no other failure has a second try."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.source_tree import ROOT

TESTS = """
import asyncio, time
from itertools import count

runs = count()

async def work():
    end = time.thread_time() + 0.06
    while time.thread_time() < end:
        pass

async def test_that_holds_the_loop_once():
    if next(runs) == 0:
        await asyncio.create_task(work())

async def test_that_holds_the_loop_each_time():
    await asyncio.create_task(work())

def test_that_fails_otherwise():
    raise AssertionError("of its own")
"""


def test_a_step_that_is_long_each_time_fails_its_test(tmp_path: Path) -> None:
    (tmp_path / "test_steps.py").write_text(TESTS, encoding="utf-8")
    options = "-q -c pyproject.toml --rootdir . -p tests.conftest -p no:cacheprovider"
    command = [sys.executable, "-m", "pytest", *options.split(), str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    failed = re.findall(r"^FAILED .*::(\w+) - ", ran.stdout, re.MULTILINE)
    assert failed == ["test_that_holds_the_loop_each_time", "test_that_fails_otherwise"], ran.stdout
    assert "2 failed, 1 passed, 3 rerun" in ran.stdout
