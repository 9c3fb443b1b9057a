"""Keeps messages of libraries out of logs, because they may contain the text of a request.

A prompt must never be logged, and one request must not make the log grow without limit. Any library may log
its input, so all are treated alike: of a message only its position in the library's code is logged, each
position once a minute; of an exception its type and the positions in its traceback.
"""

from __future__ import annotations

import logging
import math
import sys
import time
import traceback
import warnings
from collections.abc import Iterable
from pathlib import PurePath
from typing import TextIO

OURS = frozenset({"conductor", "conductor_admin", "conductor_core", "conductor_mcp", "handlers", "archives"})
EVERY_S = 60.0
_FRAMES = 12


class WithoutWords(logging.Filter):
    """Removes the message from log records of libraries, and passes each position once in EVERY_S."""

    def __init__(self) -> None:
        super().__init__()
        self._last_written: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """True if `record` is to be written; replaces message and exception of a library's record."""
        if record.name.partition(".")[0] in OURS:
            return True
        if record.levelno < logging.WARNING:  # useless without its message
            return False
        place, now = (record.pathname, record.lineno), time.monotonic()
        if now - self._last_written.get(place, -math.inf) < EVERY_S:
            return False
        self._last_written[place] = now
        place_only = f"message of {record.name} at {_short(*place)} (text withheld)"
        if record.exc_info and record.exc_info[0]:
            frames = traceback.extract_tb(record.exc_info[2])[-_FRAMES:]
            way = " > ".join(f"{_short(frame.filename, frame.lineno or 0)} {frame.name}" for frame in frames)
            place_only += f"; {record.exc_info[0].__name__} from {way}"
        record.msg, record.args = place_only, None
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def hide_library_text(handlers: Iterable[logging.Handler] | None = None) -> None:
    """Filters messages of libraries in `handlers` (all existing ones by default) and in warnings."""
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    existing = {h for logger in loggers if isinstance(logger, logging.Logger) for h in logger.handlers}
    if logging.lastResort:
        existing.add(logging.lastResort)
    for handler in handlers or existing:
        if not any(isinstance(known, WithoutWords) for known in handler.filters):
            handler.addFilter(WithoutWords())
    warnings.showwarning = _show_place


def _show_place(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"{category.__name__} at {_short(filename, lineno)} (text withheld)", file=file or sys.stderr)


def _short(path: str, line: int) -> str:
    return f"{'/'.join(PurePath(path).parts[-3:])}:{line}"
