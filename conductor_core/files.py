"""Reads files up to a size limit, writes them atomically, and describes file errors in one line.

A path may be anything: a FIFO waits for its writer for ever, a device never ends, a sparse file has gigabytes
of zeros. All code that reads or writes a file that another program may have put there uses this module, and
gets an OSError that names the path.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
LARGEST_JSON = 64 * 2**20
"""Most bytes of a JSON file of a model: files with large vocabularies have some ten million."""

_READ_BYTES = 2**20
_LOCK_LOOK_S = 0.02
_LOCK_WAIT_S = 10.0

_CURES = {
    errno.EROFS: "make the file system writable, or set CONDUCTOR_STATE_DIR to another folder",
    errno.EACCES: "give your user the permission, or set CONDUCTOR_STATE_DIR to another folder",
    errno.EPERM: "give your user the permission, or set CONDUCTOR_STATE_DIR to another folder",
    errno.EISDIR: "move that folder away",
    errno.ENOTDIR: "move the file with that name away: a folder is needed there",
    errno.EEXIST: "move away the file with that name",
    errno.ELOOP: "remove that symbolic link",
    errno.ENXIO: "move it away: only a regular file can be used",
    errno.EINVAL: "move it away: only a regular file can be used",
    errno.EFBIG: "move it away, or raise the limit of a file's size (ulimit -f)",
    errno.EIO: "the disk reports an error: see the system's log",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the machine's limit of open files",
}


class NotARegularFile(OSError):
    """A folder, FIFO, socket or device in the place of a file; it was not read."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(errno.EINVAL, "not a regular file", str(path))


class FileTooLarge(OSError):
    """A file that is larger than its reader's limit."""

    def __init__(self, path: Path | str, most: int) -> None:
        super().__init__(errno.EFBIG, f"larger than {most} bytes", str(path))


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of the regular file at `path`. Raises OSError, FileTooLarge for more than `most` bytes.

    Never waits for a writer, and reads at most one byte more than `most`.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise NotARegularFile(path)  # before it is opened, because opening a device may have effects
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise NotARegularFile(path)
        if found.st_size > most:
            raise FileTooLarge(path, most)
        content = bytearray()
        while block := os.read(file, min(_READ_BYTES, most + 1 - len(content))):
            content += block
            if len(content) > most:
                raise FileTooLarge(path, most)
        return bytes(content)
    finally:
        os.close(file)


def last_text(path: Path, most: int = 16_384) -> str:
    """The last `most` bytes of a log as text; empty if there is no such regular file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return ""
        with open(path, "rb", opener=_no_waiting) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            return str(file.read(most), "utf-8", "replace")
    except OSError:
        return ""


def _no_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def open_private(path: Path, flags: int) -> int:
    """A descriptor of the regular file at `path`, which is created with mode 0600 if missing.

    Follows no link.
    """
    file = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise NotARegularFile(path)
    return file


def write_whole(path: Path, content: bytes, *, keep: bool = True) -> None:
    """Atomically replaces the file at `path` by `content`, with mode 0600. Raises OSError.

    With `keep` it waits until the content is on the disk, so that it survives a power failure.
    """
    unnamed = path.with_name(f"{path.name}.new")
    try:
        unnamed.unlink(missing_ok=True)
        file = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write(file, content, path)
            if keep:
                os.fsync(file)
        finally:
            os.close(file)
        unnamed.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unnamed.unlink(missing_ok=True)
        raise _of(path, error) from error


def append_line(file: int, path: Path, line: bytes) -> None:
    """Appends the whole `line` to the open file, or nothing of it. The caller holds the file's lock."""
    size = os.fstat(file).st_size
    try:
        _write(file, line, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(file, size)  # part of a line would corrupt the next one
        raise _of(path, error) from error


def _write(file: int, content: bytes, path: Path) -> None:
    rest = memoryview(content)
    while rest:
        written = os.write(file, rest)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        rest = rest[written:]


def take_lock(file: int, path: Path, wait_s: float = _LOCK_WAIT_S) -> None:
    """Locks the open file exclusively.

    OSError if another process holds the lock for more than `wait_s` seconds.
    """
    deadline = time.monotonic() + wait_s
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() >= deadline:
            raise OSError(errno.EAGAIN, "another process keeps it locked", str(path))
        time.sleep(_LOCK_LOOK_S)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock on the file `path`, which is created if missing. Raises OSError."""
    file = open_private(path, os.O_RDWR)
    try:
        take_lock(file, path)
        yield
    finally:
        os.close(file)


def fault(error: OSError) -> str:
    """The error in one line: the path, the fault and its remedy."""
    where = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error) or type(error).__name__
    cure = _CURES.get(error.errno or 0, "")
    if error.errno in DISK_FULL:
        folder = str(Path(os.fsdecode(error.filename)).parent) if error.filename else "the state folder"
        cure = f"free space in {folder}"
    return " ".join(f"{where}{reason[:1].lower()}{reason[1:]}{f'; {cure}' if cure else ''}".split())


def is_fault_of_files(error: OSError) -> bool:
    """True if the error is of a file or disk, and not of a connection or a process."""
    if isinstance(error, ConnectionError | TimeoutError | ChildProcessError | ProcessLookupError):
        return False
    return error.filename is not None or error.errno in DISK_FULL | {errno.EROFS, errno.EIO}


def _of(path: Path, error: OSError) -> OSError:
    return error if isinstance(error, NotARegularFile) else OSError(error.errno, error.strerror, str(path))
