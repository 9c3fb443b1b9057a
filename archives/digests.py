"""Compares files with the digests that were recorded of them; reads a file only if its stat has changed.

Size, times and inode under which a file was last found whole are kept in a file of their own, so that the
look before each load costs one `stat` for each file. A change that leaves all of them as they were, such as a
bad sector, is found by `whole` alone.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archives.errors import BuildCancelled

_PIECE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Recorded:
    """sha256 by name of the files below `folder`; `seen` keeps their stats, `stop` ends the reading."""

    folder: Path
    files: Mapping[str, str]
    seen: Path
    stop: threading.Event


def damaged(recorded: Recorded, *, whole: bool = False) -> list[str]:
    """Names of the files that are missing or have another content; `whole` reads every one."""
    known = {} if whole else _read(recorded.seen)
    found: dict[str, Any] = {}
    for name, digest in recorded.files.items():
        path = recorded.folder / name
        stamp = _stamp(path, digest)
        if stamp is None:
            continue
        # Taken before the content is read: a change in between makes the next look read it again.
        if known.get(name) == stamp or sha256_of(path, recorded.stop) == digest:
            found[name] = stamp
    if found != known:
        # Without it the next look reads everything again.
        with suppress(OSError):
            write_json(recorded.seen, found)
    return [name for name in recorded.files if name not in found]


def sha256_of(path: Path, stop: threading.Event | None = None) -> str:
    """sha256 of a file's content, in hex. BuildCancelled once `stop` is set."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            if stop is not None and stop.is_set():
                raise BuildCancelled
            total.update(piece)
    return total.hexdigest()


def is_named_by_content(path: Path) -> bool:
    """False where the cache of the hub named the file by a digest that it no longer has."""
    name = path.resolve().name
    if len(name) == 64 and _is_hex(name):
        return sha256_of(path) == name
    if len(name) == 40 and _is_hex(name):
        content = path.read_bytes()
        of_git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return of_git.hexdigest() == name
    return True


def write_json(path: Path, value: Any) -> None:
    """Replace the file `path` at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".new", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(json.dumps(value, indent=2, sort_keys=True) + "\n")
            file.flush()
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _is_hex(text: str) -> bool:
    return not text.strip("0123456789abcdef")


def _stamp(path: Path, digest: str) -> list[Any] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    # The time of the last change of the inode cannot be set by anybody, unlike that of the content.
    return [digest, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
