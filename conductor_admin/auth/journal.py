"""A file of JSON lines that is only appended to and rotated at a size; several processes may write to it.

A writer holds the file's own lock while it appends a line or rotates the file, so that no two rotate it at
once and none appends to a file that another one has just renamed.
"""

from __future__ import annotations

import os
from pathlib import Path

from conductor_core.files import append_line, open_private, take_lock


class Journal:
    """The file at `path`, with `kept` older ones beside it: `<name>.1` is the youngest of them."""

    def __init__(self, path: Path, *, largest: int, kept: int) -> None:
        self.path = path
        self._largest = largest
        self._kept = kept

    def append(self, line: bytes, *, lasting: bool = False) -> None:
        """Add a whole line or nothing; `lasting` waits until the disk has it. Raises OSError."""
        file = self._locked()
        try:
            append_line(file, self.path, line)
            if lasting:
                os.fsync(file)
        finally:
            os.close(file)

    def _locked(self) -> int:
        """Descriptor of the locked file that has the name now and room for a line."""
        while True:
            file = open_private(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                take_lock(file, self.path)
                if self._has_name(file):
                    if os.fstat(file).st_size < self._largest:
                        return file
                    self._set_aside()
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _has_name(self, file: int) -> bool:
        """True unless another process has rotated the open file while this one waited for its lock."""
        try:
            named = self.path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(file))

    def _set_aside(self) -> None:
        for number in range(self._kept, 0, -1):
            older = self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
            if older.exists():
                older.replace(self.path.with_name(f"{self.path.name}.{number}"))
