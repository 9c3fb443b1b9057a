"""Commands on a full or broken disk and in folders with unusual contents: one line of error each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from conductor.errors import CommandError, plain_faults
from conductor_admin.auth.keys_file import KeysFile
from conductor_admin.auth.reserve import Reserve
from conductor_core.paths import StateDir
from tests.conductor.command_line import Invoke
from tests.odd_files import Disk, make_fifo, make_folder, make_socket, pretended_disk, real_disk

pytestmark = pytest.mark.slow

KEYS = (
    ("keys", "create", "bob"),
    ("keys", "set", "alice", "--streams", "1"),
    ("keys", "revoke", "alice"),
    ("keys", "list"),
)


@pytest.fixture(params=["real", "pretended"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    with real_disk() if request.param == "real" else pretended_disk(monkeypatch) as disk:
        yield disk


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """The only line of output of a command that exited with 1."""
    assert result.returncode == 1, result
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.strip().splitlines()
    return line


def run(*arguments: str, folder: Path, stdout: int | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "conductor.cli", *arguments],
        cwd=folder,
        env={**os.environ, "CONDUCTOR_STATE_DIR": str(folder / "s")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )


def test_keys_on_a_full_disk_are_one_line_with_the_cure(conductor: Invoke, disk: Disk) -> None:
    state = StateDir.at(disk.root)
    folder = ("--state-dir", str(state.root))
    assert conductor("keys", "create", "alice", *folder).exit_code == 0
    kept = state.keys_file.read_bytes()
    disk.fill()
    for arguments in KEYS[:2]:
        for _ in range(50):  # the log may have some bytes left, a new file has none
            result = conductor(*arguments, *folder)
            if "cannot be recorded" in result.stderr:
                break
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
        assert f"free space in {state.logs}" in result.stderr
        assert state.keys_file.read_bytes() == kept
    assert conductor("keys", "list", *folder).exit_code == 0


def test_a_key_is_revoked_on_a_full_disk(conductor: Invoke, disk: Disk) -> None:
    state = StateDir.at(disk.root)
    folder = ("--state-dir", str(state.root))
    conductor("keys", "create", "alice", *folder)
    disk.fill()
    result = conductor("keys", "revoke", "alice", *folder)
    assert result.exit_code == 0, result.output
    assert KeysFile(state).read() == ()
    results = [orjson.loads(line)["result"] for line in state.audit_file.read_bytes().splitlines()]
    assert results == ["begun", "done", "begun", "done"]


def test_a_revocation_without_any_space_says_that_it_failed(
    conductor: Invoke, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateDir.at(disk.root)
    folder = ("--state-dir", str(state.root))
    conductor("keys", "create", "alice", *folder)
    monkeypatch.setattr(Reserve, "give_up", lambda self: False)
    disk.fill()
    result = conductor("keys", "revoke", "alice", *folder)
    assert result.exit_code == 1
    assert f"the keys cannot be changed: {state.keys_file}: no space left on device" in result.stderr
    assert f"free space in {state.root}" in result.stderr
    assert len(KeysFile(state).read() or ()) == 1


def state_is_a_file(state: Path) -> None:
    state.write_text("")


def log_is_a_folder(state: Path) -> None:
    make_folder(made(state) / "logs/gateway.log")


def log_is_a_fifo(state: Path) -> None:
    make_fifo(made(state) / "logs/gateway.log")


def audit_is_a_folder(state: Path) -> None:
    make_folder(made(state) / "logs/audit.jsonl")


def keys_are_a_fifo(state: Path) -> None:
    make_fifo(made(state) / "keys.json")


def lock_is_a_socket(state: Path) -> None:
    make_socket(made(state) / "lock")


def run_file_is_a_folder(state: Path) -> None:
    make_folder(made(state) / "run.json")


def made(state: Path) -> Path:
    StateDir.at(state).create()
    return state


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (state_is_a_file, "s"),
        (log_is_a_folder, "gateway.log"),
        (log_is_a_fifo, "gateway.log"),
        (keys_are_a_fifo, "keys.json"),
        (lock_is_a_socket, "lock"),
        (run_file_is_a_folder, "run.json"),
    ],
)
def test_a_start_on_a_broken_state_folder_is_one_line(project: Path, spoil: object, named: str) -> None:
    assert callable(spoil)
    spoil(project / "s")
    line = one_line(run("serve", "--skip-model-loading", "--port", "0", folder=project))
    assert line.startswith("conductor: ")
    assert re.search(rf"/{re.escape(named)}\b.*(move|regular file)", line), line


def test_a_start_on_a_full_disk_is_one_line(project: Path) -> None:
    with real_disk() as disk:
        (disk.root / "SETTINGS.md").write_text((project / "SETTINGS.md").read_text())
        disk.fill()
        for arguments in (("serve", "--skip-model-loading", "--port", "0"), ("keys", "create", "a")):
            line = one_line(run(*arguments, folder=disk.root))
            assert "free space" in line
            assert str(disk.root) in line


@pytest.mark.parametrize(
    ("spoil", "arguments"),
    [
        (state_is_a_file, ("keys", "create", "bob")),
        (state_is_a_file, ("keys", "list")),
        (audit_is_a_folder, ("keys", "create", "bob")),
        (keys_are_a_fifo, ("keys", "list")),
        (keys_are_a_fifo, ("keys", "create", "bob")),
    ],
)
def test_keys_on_a_broken_state_folder_are_one_line(
    project: Path, conductor: Invoke, spoil: object, arguments: tuple[str, ...]
) -> None:
    assert callable(spoil)
    spoil(project / "s")
    result = conductor(*arguments, "--state-dir", str(project / "s"))
    assert result.exit_code == 1, result.output
    assert result.stderr.count("\n") == 1
    assert str(project / "s") in result.stderr
    assert "move" in result.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nothing_takes_is_one_line(
    project: Path, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full:
        line = one_line(run("list", folder=project, stdout=full.fileno()))
    assert "no space left on device" in line


def test_any_command_tells_a_fault_of_files_in_a_line() -> None:
    with pytest.raises(CommandError, match="/x/y: permission denied; give your user"), plain_faults():
        raise PermissionError(13, "Permission denied", "/x/y")
    with pytest.raises(BrokenPipeError), plain_faults():
        raise BrokenPipeError
    with pytest.raises(OSError, match="a defect"), plain_faults():
        raise OSError("a defect")
