"""Things other than a file at a file's path, and a full disk: a real one if it can be mounted."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conductor_core import files


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    # Bound by a relative name: the path of a test's folder may be too long for a socket.
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


def make_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2 * 2**30)


ODD: dict[str, Callable[[Path], None]] = {
    "fifo": make_fifo,
    "socket": make_socket,
    "folder": make_folder,
    "device": make_device,
    "link to itself": make_loop,
    "2 GB of nothing": make_sparse,
}


@dataclass
class Disk:
    """A disk with the folder `root`, which a test fills and frees."""

    root: Path
    fill: Callable[[], None]
    free: Callable[[], None]


@contextlib.contextmanager
def real_disk() -> Iterator[Disk]:
    """A file system of 2 MB; skips the test if this user cannot mount one."""
    with tempfile.TemporaryDirectory(prefix="cd-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", folder]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("this user cannot mount a file system of its own")
        root = Path(folder)
        ballast = root / "ballast"

        def fill() -> None:
            with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
                for size in (65536, 4096, 1):
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(b"x" * size)

        try:
            yield Disk(root, fill, ballast.unlink)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.contextmanager
def pretended_disk(monkeypatch: pytest.MonkeyPatch, reserve: str = "reserve") -> Iterator[Disk]:
    """A folder in which writes fail while it is full, unless the reserve file in it was freed."""
    with tempfile.TemporaryDirectory(prefix="cd-") as folder:
        root, full = Path(folder), False
        write, allocate = files._write, os.posix_fallocate

        def has_room() -> bool:
            return not full or not (root / reserve).exists()

        def refuse() -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def writing(file: int, content: bytes, path: Path) -> None:
            if not has_room():
                refuse()
            write(file, content, path)

        def allocating(file: int, start: int, size: int) -> None:
            if full:
                refuse()
            allocate(file, start, size)

        def set_full(value: bool) -> None:
            nonlocal full
            full = value

        monkeypatch.setattr(files, "_write", writing)
        monkeypatch.setattr(os, "posix_fallocate", allocating)
        yield Disk(root, lambda: set_full(True), lambda: set_full(False))
