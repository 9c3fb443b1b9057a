"""The key that a gateway makes for itself at its first start, where there is nobody to make one by hand."""

from __future__ import annotations

import time
from pathlib import Path

from conductor_admin.keys import KeyBody
from conductor_admin.keys_file import KeysFile
from conductor_core.files import write_whole
from conductor_core.paths import StateDir

NAME = "first"


def has_key(state: StateDir) -> bool:
    """Whether the state directory has a key that is valid now. Raises KeysFileError."""
    now = time.time()
    return any(key.is_valid(now) for key in KeysFile(state).read() or ())


def create_first_key(state: StateDir) -> Path | None:
    """Make a key that may do everything and write its text to the file that is returned.

    None where there is a file of keys already, even one from which all were revoked.
    """
    if KeysFile(state).read() is not None:
        return None
    KeysFile(state).create(
        KeyBody(name=NAME, scopes=["infer", "admin"]), keep=lambda text: _keep(state, text)
    )
    return state.first_key


def _keep(state: StateDir, text: str) -> None:
    # Before the key counts: one whose text was lost would close the gateway to everybody.
    write_whole(state.first_key, f"{text}\n".encode())
