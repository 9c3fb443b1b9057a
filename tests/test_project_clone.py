"""A fresh clone, with only the committed files, works on a machine without Java."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.source_tree import ROOT

pytestmark = pytest.mark.proof

TOOLS = (
    "bash",
    "make",
    "gcc",
    "sed",
    "basename",
    "dirname",
    "touch",
    "rm",
    "cat",
    "expand",
    "find",
    "uname",
    "env",
)


@pytest.fixture(scope="module")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A PATH that holds Python 3.11, make, gcc and the shell's own tools, but no Java."""
    tools = tmp_path_factory.mktemp("bin")
    for name in TOOLS:
        found = shutil.which(name)
        assert found, name
        (tools / name).symlink_to(found)
    (tools / "python3.11").symlink_to(Path(sys.base_prefix) / "bin" / "python3.11")
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name == "HOME"}
    return kept | {"PATH": str(tools)}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone") / "conductor"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


def make(target: str, clone: Path, env: dict[str, str]) -> str:
    done = subprocess.run(["make", target], cwd=clone, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_a_clone_installs_once_recovers_and_brings_a_java(
    clone: Path, bare_environment: dict[str, str]
) -> None:
    assert "one of its own" in make("install", clone, bare_environment)
    assert "Nothing to be done" in make("install", clone, bare_environment)

    names = [dist["name"].lower() for dist in json.loads(packages(clone))]
    assert not [name for name in names if name.startswith(("nvidia-", "cuda-")) or name == "triton"]

    shell = '. .venv/bin/activate; java -version; test -f "$TS_CONFIG_FILE"; torchserve --version'
    subprocess.run(["bash", "-euc", shell], cwd=clone, env=bare_environment, check=True)

    (clone / ".venv/.installed").unlink()
    (clone / ".venv/.unfinished").touch()
    assert "virtual environment" in make("install", clone, bare_environment)
    assert not (clone / ".venv/.unfinished").exists()


def packages(clone: Path) -> bytes:
    command = [str(clone / ".venv/bin/python"), "-m", "pip", "list", "--format", "json"]
    return subprocess.run(command, check=True, capture_output=True).stdout
