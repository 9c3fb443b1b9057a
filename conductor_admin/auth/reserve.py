"""Reserved disk space: a file that is removed when the disk is full, so that a key can still be revoked."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from conductor_core.files import open_private

LEAST_BYTES = 256 * 2**10
"""Room for the lines of the audit log and a small file of keys."""


class Reserve:
    """The file at `path`, which only occupies blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self, keys_bytes: int = 0) -> bool:
        """Reserve space for a file of keys of that size in bytes; True if it is reserved now."""
        wanted = LEAST_BYTES + 2 * keys_bytes
        try:
            if self._path.lstat().st_size >= wanted:
                return True
        except OSError:
            pass
        try:
            file = open_private(self._path, os.O_WRONLY)
        except OSError:
            return False
        try:
            os.posix_fallocate(file, 0, wanted)
        except OSError:
            self.give_up()  # leave the last bytes of a disk to others
            return False
        finally:
            os.close(file)
        return True

    def give_up(self) -> bool:
        """Free the space; True if there was some."""
        with contextlib.suppress(OSError):
            self._path.unlink()
            return True
        return False
