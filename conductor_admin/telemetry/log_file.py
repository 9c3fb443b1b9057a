"""A rotating log file: a full one is renamed, and a few old ones are kept."""

from __future__ import annotations

import errno
import os
from pathlib import Path


class LogFile:
    """`path` with at most `most_bytes`, and `kept` older files `path.1`, `path.2` and so on."""

    def __init__(self, path: Path, most_bytes: int, kept: int) -> None:
        """Open the file. Raises OSError."""
        self._path = path
        self._most_bytes = most_bytes
        self._kept = kept
        self._is_torn = False
        self._descriptor: int | None = None
        self._size = 0
        self._open()

    def write(self, line: bytes) -> None:
        """Append `line`. Raises OSError if the disk takes none or only a part of it."""
        if self._descriptor is None:
            self._open()
        if self._size and self._size + len(line) > self._most_bytes:
            self._rotate()
        data = b"\n" + line if self._is_torn else line
        assert self._descriptor is not None
        written = os.write(self._descriptor, data)
        self._size += written
        self._is_torn = written < len(data)
        if self._is_torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file; a later line would open it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o666)
        self._descriptor, self._size = descriptor, os.fstat(descriptor).st_size

    def _rotate(self) -> None:
        self.close()
        for number in range(self._kept - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))
        self._is_torn = False
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
