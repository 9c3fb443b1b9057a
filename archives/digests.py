"""Compares files with their recorded digests; reads a file only if its stat has changed.

Size, times and inode of each file that was found intact are kept in a separate file, so that the check before
each load costs one `stat` per file. Only `whole` finds damage that changes none of them, such as a bad
sector.
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
    """Recorded digests: sha256 by name of the files in `folder`.

    `seen` keeps their stats, `stop` ends reading.
    """

    folder: Path
    files: Mapping[str, str]
    seen: Path
    stop: threading.Event


def damaged(recorded: Recorded, *, whole: bool = False) -> list[str]:
    """Names of files that are missing or damaged; with `whole` every file is read."""
    known = {} if whole else _read(recorded.seen)
    found: dict[str, Any] = {}
    for name, digest in recorded.files.items():
        path = recorded.folder / name
        try:
            stat = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        # Taken before the content is read, so that after a change in between the next check reads it again.
        # Unlike the time of the content, the change time of the inode (ctime) cannot be set.
        stamp = [digest, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        if known.get(name) == stamp or sha256_of(path, recorded.stop) == digest:
            found[name] = stamp
    if found != known:
        # If it cannot be written, the next check reads everything again.
        with suppress(OSError):
            write_json(recorded.seen, found)
    return [name for name in recorded.files if name not in found]


def sha256_of(path: Path, stop: threading.Event | None = None) -> str:
    """The sha256 of a file's content in hex. BuildCancelled once `stop` is set."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            if stop is not None and stop.is_set():
                raise BuildCancelled
            total.update(piece)
    return total.hexdigest()


def is_named_by_content(path: Path) -> bool:
    """False if the hub's cache named the file by a digest that its content no longer has."""
    name = path.resolve().name
    if len(name) == 64 and _is_hex(name):
        return sha256_of(path) == name
    if len(name) == 40 and _is_hex(name):
        content = path.read_bytes()
        of_git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return of_git.hexdigest() == name
    return True


def write_json(path: Path, value: Any) -> None:
    """Atomically replaces the file `path`."""
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


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
