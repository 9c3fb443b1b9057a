"""`keys.json` of a state directory: read whole, changed under a lock, replaced atomically, mode 0600.

The command line and the gateway both write it. A file that cannot be parsed is an error for both: to read it
as empty would open the gateway. A gateway can create the first key itself, where no person does.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from conductor_admin.auth.keys import Key, KeyBody, make_key, named
from conductor_admin.auth.reserve import Reserve
from conductor_core.files import DISK_FULL, fault, locked, read_bounded, write_whole
from conductor_core.paths import StateDir
from handlers.wire import Shape

Stamp = tuple[int, int, int] | None

LARGEST_BYTES = 4 * 2**20
"""Largest size of the file, about eight thousand keys."""

FIRST_KEY_NAME = "first"


class KeysFileError(Exception):
    """The file cannot be used; the message is one line with the cure. `cause` is the disk's error."""

    def __init__(self, message: str, cause: OSError | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class _Content(Shape):
    model_config = ConfigDict(extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    keys: list[Key] = Field(default=[])


class KeysFile:
    """The keys of one state directory. No file means no key was made; an empty list, all were revoked."""

    def __init__(self, state: StateDir) -> None:
        self._path = state.keys_file
        self._lock = state.keys_file.with_suffix(".lock")
        self._reserve = Reserve(state.reserve_file)

    def stamp(self) -> Stamp:
        """Stamp of the file, different after every change; None if there is no file."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(error) from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def read(self) -> tuple[Key, ...] | None:
        """All keys, None if there is no file. Raises KeysFileError."""
        try:
            raw = read_bounded(self._path, LARGEST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(error) from error
        try:
            return tuple(_Content.model_validate_json(raw).keys)
        except ValidationError as error:
            raise KeysFileError(
                f"{self._path} is not a key file that this version can read "
                f"({error.error_count()} mistakes): restore it, or remove it and create new keys"
            ) from error

    def create(self, body: KeyBody, keep: Callable[[str], None] | None = None) -> tuple[Key, str]:
        """Create a key; return it and its text, which the file lacks. RequestError 409 `key_exists`.

        `keep` gets the text before the key becomes valid.
        """
        with self._changing() as keys:
            key, text = make_key(body, keys)
            keys.append(key)
            if keep is not None:
                keep(text)
        return key, text

    def revoke(self, name: str) -> Key:
        """Take out the key with this id or name. Raises 404 `key_not_found`.

        On a full disk, frees the reserve file and tries again.
        """
        try:
            return self._take_out(name)
        except KeysFileError as error:
            is_full = error.cause is not None and error.cause.errno in DISK_FULL
            if not is_full or not self._reserve.give_up():
                raise
        return self._take_out(name)

    def change(self, name: str, changes: Mapping[str, Any]) -> Key:
        """Give the key with this id or name other rules. Raises 404 `key_not_found`."""
        with self._changing() as keys:
            key = named(keys, name)
            keys[keys.index(key)] = key = key.with_rules(changes)
        return key

    def _take_out(self, name: str) -> Key:
        with self._changing() as keys:
            key = named(keys, name)
            keys.remove(key)
        return key

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Key]]:
        try:
            with locked(self._lock):
                keys = list(self.read() or ())
                yield keys
                self._write(keys)
        except OSError as error:
            raise KeysFileError(f"the keys cannot be changed: {fault(error)}", error) from error

    def _write(self, keys: list[Key]) -> None:
        content = _Content(keys=keys).model_dump_json(indent=2).encode()
        if len(content) > LARGEST_BYTES:
            raise OSError(errno.EFBIG, "too many keys: revoke some", str(self._path))
        write_whole(self._path, content)
        self._reserve.fill(len(content))


def _unreadable(error: OSError) -> KeysFileError:
    return KeysFileError(f"the keys cannot be read: {fault(error)}", error)


def has_key(state: StateDir) -> bool:
    """True if the state directory has a key that is valid now. Raises KeysFileError."""
    now = time.time()
    return any(key.is_valid(now) for key in KeysFile(state).read() or ())


def create_first_key(state: StateDir) -> Path | None:
    """Create a key with all scopes; return the file that has its text.

    None if there is a file of keys already, even one without keys.
    """
    if KeysFile(state).read() is not None:
        return None
    KeysFile(state).create(
        KeyBody(name=FIRST_KEY_NAME, scopes=["infer", "admin"]),
        keep=lambda text: _keep_first_key(state, text),
    )
    return state.first_key


def _keep_first_key(state: StateDir, text: str) -> None:
    # Before the key becomes valid: a key whose text is lost would close the gateway to everybody.
    write_whole(state.first_key, f"{text}\n".encode())
