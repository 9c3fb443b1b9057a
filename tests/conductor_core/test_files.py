"""Files of any kind are read up to a limit, written atomically, and their errors are one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from conductor_core.files import (
    FileTooLarge,
    append_line,
    fault,
    last_text,
    open_private,
    read_bounded,
    write_whole,
)
from conductor_core.issues import SettingsError
from conductor_core.owner import owner_headers
from conductor_core.paths import StateDir, StateDirError
from conductor_core.settings.parser import LARGEST_BYTES, load_settings
from tests.odd_files import ODD


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_of_a_sane_size_is_refused_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "SETTINGS.md"
    ODD[kind](path)
    with pytest.raises(OSError, match=r"SETTINGS\.md") as caught:
        read_bounded(path, 1000)
    assert str(path) in fault(caught.value)
    assert "\n" not in fault(caught.value)
    with pytest.raises(SettingsError) as broken:
        load_settings(path)
    assert len(broken.value.issues) == 1
    if kind != "2 GB of nothing":
        assert last_text(path) == ""


def test_a_bounded_reader_takes_all_of_what_it_may_and_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    assert read_bounded(path, 1000) == b"x" * 1000
    with pytest.raises(FileTooLarge, match="larger than 999 bytes"):
        read_bounded(path, 999)
    with pytest.raises(FileTooLarge):  # stat gives its size as 0
        read_bounded(Path("/proc/self/status"), 10)


def test_a_table_is_read_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "SETTINGS.md"
    path.write_bytes(b" " * (LARGEST_BYTES + 1))
    with pytest.raises(SettingsError, match="at most 250000 characters"):
        load_settings(path)


def test_the_end_of_a_log_is_read_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("first\n" + "x" * 100_000 + "\nlast\n")
    assert last_text(path).endswith("\nlast\n")
    assert len(last_text(path)) == 16_384


def test_a_file_that_cannot_be_written_whole_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "keys.json", os.write
    write_whole(path, b"before")
    assert path.stat().st_mode & 0o777 == 0o600

    def half(file: int, content: bytes) -> int:
        if len(content) < 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, bytes(content)[:4])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(path, b"afterwards")
    assert f"free space in {tmp_path}" in fault(caught.value)
    log = tmp_path / "log"
    file = open_private(log, os.O_WRONLY | os.O_APPEND)
    append_line(file, log, b"12345678")
    with pytest.raises(OSError, match="No space left"):
        append_line(file, log, b"123456789")
    os.close(file)
    assert log.read_bytes() == b"12345678"
    assert path.read_bytes() == b"before"
    assert sorted(tmp_path.iterdir()) == [path, log]


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "free space in /state/logs"),
        (errno.EDQUOT, "free space in /state/logs"),
        (errno.EROFS, "writable"),
        (errno.EACCES, "permission"),
        (errno.EIO, "the disk reports an error"),
        (errno.EISDIR, "move that folder away"),
        (errno.ENOTDIR, "move the file with that name away"),
    ],
)
def test_each_fault_names_path_and_cure_in_one_line(number: int, cure: str) -> None:
    line = fault(OSError(number, os.strerror(number), "/state/logs/audit.jsonl"))
    assert line.startswith("/state/logs/audit.jsonl: ")
    assert cure in line
    assert "\n" not in line


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", sorted(set(ODD) - {"2 GB of nothing"}))
def test_a_state_folder_with_something_else_in_the_place_of_a_file_is_refused(
    tmp_path: Path, kind: str
) -> None:
    state = StateDir.at(tmp_path / "s")
    state.create()
    state.check_files()
    for path in (state.logs / "gateway.log", state.peaks_file):
        ODD[kind](path)
        with pytest.raises(StateDirError, match=path.name) as caught:
            state.check_files()
        assert "\n" not in str(caught.value)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ODD)
def test_an_owners_token_that_is_no_file_is_none(tmp_path: Path, kind: str) -> None:
    state = StateDir.at(tmp_path / "s")
    state.create()
    ODD[kind](state.owner_token)
    assert owner_headers(state) == {}
