"""The audit log: one JSON line for each thing that an operator did or was refused; never a key's text.

Only appended to, by the gateway and by the command line. Before it grows beyond its size it is set aside.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

LARGEST_BYTES = 16 * 2**20
KEPT = 9
"""Older files, `audit.jsonl.1` the youngest of them."""

LONGEST_TEXT = 300


class Audit:
    """The log at `path`, in a folder that is private to its user."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def record(
        self,
        who: str,
        action: str,
        result: str | int,
        *,
        source: str | None = None,
        request_id: str | None = None,
        key_id: str | None = None,
        **details: Any,
    ) -> None:
        """Add a line: `who` by name and `key_id`, what, from which address, and how it ended."""
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "who": who,
            "key_id": key_id,
            "action": action[:LONGEST_TEXT],
            "result": result,
            "source": source,
            "request_id": request_id,
            **details,
        }
        self._set_aside()
        # One write of a whole line: those of two processes do not mix. JSON escapes line ends and controls.
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.write(file, orjson.dumps(line, default=str) + b"\n")
        finally:
            os.close(file)

    def _set_aside(self) -> None:
        try:
            if self._path.stat().st_size < LARGEST_BYTES:
                return
        except FileNotFoundError:
            return
        for number in range(KEPT, 0, -1):
            older = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            if older.exists():
                older.replace(self._path.with_name(f"{self._path.name}.{number}"))
