"""`keys.json` of a state directory: read whole, changed under a lock, replaced at once, private to its user.

The command line and the gateway both write it. A file that is not understood is an error for both: taking it
for an empty one would open the gateway.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from conductor_admin.keys import Key, KeyBody, make_key, named
from conductor_core.paths import StateDir
from handlers.strict_shapes import Shape

Stamp = tuple[int, int, int] | None


class KeysFileError(Exception):
    """The file cannot be used; one line that names it and what to do."""


class _Content(Shape):
    model_config = ConfigDict(extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    keys: list[Key] = Field(default=[])


class KeysFile:
    """The keys of one state directory. No file is no key; an empty list means that all were revoked."""

    def __init__(self, state: StateDir) -> None:
        self._path = state.keys_file
        self._lock = state.keys_file.with_suffix(".lock")

    def stamp(self) -> Stamp:
        """Differs after every change; None where there is no file."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeysFileError(f"{self._path} cannot be read: {error.strerror}") from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def read(self) -> tuple[Key, ...] | None:
        """All keys, None where there is no file. Raises KeysFileError."""
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeysFileError(f"{self._path} cannot be read: {error.strerror}") from error
        try:
            return tuple(_Content.model_validate_json(raw).keys)
        except ValidationError as error:
            raise KeysFileError(
                f"{self._path} is not a file of keys that this version understands "
                f"({error.error_count()} mistakes): restore it, or remove it and make new keys"
            ) from error

    def create(self, body: KeyBody) -> tuple[Key, str]:
        """A new key, and its text, which is nowhere else. Raises 409 `key_exists`."""
        with self._changing() as keys:
            key, text = make_key(body, keys)
            keys.append(key)
        return key, text

    def revoke(self, name: str) -> Key:
        """Take out the key with this id or name. Raises 404 `key_not_found`."""
        with self._changing() as keys:
            key = named(keys, name)
            keys.remove(key)
        return key

    def change(self, name: str, changes: Mapping[str, Any]) -> Key:
        """Give the key with this id or name other rules. Raises 404 `key_not_found`."""
        with self._changing() as keys:
            key = named(keys, name)
            keys[keys.index(key)] = key = key.with_rules(changes)
        return key

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Key]]:
        with _private(self._lock, os.O_RDWR).open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = list(self.read() or ())
            yield keys
            self._write(keys)

    def _write(self, keys: list[Key]) -> None:
        unnamed = self._path.with_suffix(".new")
        unnamed.unlink(missing_ok=True)
        with _private(unnamed, os.O_WRONLY).open("wb") as file:
            file.write(_Content(keys=keys).model_dump_json(indent=2).encode())
            file.flush()
            os.fsync(file.fileno())
        unnamed.replace(self._path)


def _private(path: Path, flags: int) -> Path:
    try:
        os.close(os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise KeysFileError(f"{path} cannot be written: {error.strerror}") from error
    return path
