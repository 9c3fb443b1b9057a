"""Paths on disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from conductor_core.catalogue import ModelRef
from conductor_core.paths import ProjectPaths, StateDir, StateDirError


def test_the_run_folder_is_inside_while_its_path_is_short() -> None:
    root = Path("/" + "x" * 65)
    assert StateDir(root).run == root / "run"
    assert len(str(root / "run")) == 70


def test_a_long_state_directory_has_its_run_folder_elsewhere() -> None:
    roots = [Path("/" + "x" * 66), Path("/" + "é" * 40)]
    runs = [StateDir(root).run for root in roots]
    assert len(set(runs)) == 2
    for run in runs:
        assert run.name.startswith("conductor-")
        assert len(os.fsencode(run)) <= 70


def test_a_long_temporary_folder_is_not_used_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/" + "t" * 60)
    assert StateDir(Path("/" + "x" * 90)).run.parent == Path("/tmp")


def test_every_socket_path_is_short_enough_for_the_kernel() -> None:
    state = StateDir(Path("/" + "x" * 65))
    sockets = [state.inference_socket, state.management_socket]
    sockets += [state.worker_socket(2**22), state.torchserve_tmp / ".ts.sock.65535"]
    assert max(len(os.fsencode(path)) for path in sockets) <= 107


def test_create_makes_private_folders_and_may_be_repeated(tmp_path: Path) -> None:
    state = StateDir.at(tmp_path / "deep" / "state")
    for _ in range(2):
        state.create()
    for folder in (state.root, state.store, state.logs, state.run, state.torchserve, state.torchserve_tmp):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert state.run_file.parent == state.lock_file.parent == state.root


def test_an_open_state_directory_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    StateDir(tmp_path).create()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_run_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    state = StateDir(tmp_path / ("x" * 80))
    (tmp_path / "elsewhere").mkdir()
    state.run.symlink_to(tmp_path / "elsewhere")
    try:
        with pytest.raises(StateDirError, match="is a symbolic link or belongs to another user"):
            state.create()
    finally:
        state.run.unlink()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateDirError, match="state cannot be created: file exists"):
        StateDir(tmp_path / "state").create()


def test_a_state_directory_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert StateDir.at(".conductor").root == tmp_path / ".conductor"


def test_models_and_archives_lie_beside_the_settings_file(tmp_path: Path) -> None:
    project = ProjectPaths.at(tmp_path / "SETTINGS.md")
    assert project.models == tmp_path / "models"
    assert project.store == tmp_path / "archives" / "store"


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("models/x.gguf", "/project/models/x.gguf"),
        ("../x", "/x"),
        ("/srv/x", "/srv/x"),
        ("~/x", "/home/me/x"),
    ],
)
def test_a_local_model_is_relative_to_the_settings_file(
    monkeypatch: pytest.MonkeyPatch, source: str, path: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert ProjectPaths(Path("/project/SETTINGS.md")).local_model(ModelRef("path", source)) == Path(path)
