"""Tracebacks for logs: types and places of errors, without their messages.

The message of an unexpected error often repeats the wrong value, which may be a prompt or an answer, and
those must not be logged. Messages of the operating system about failed calls are kept.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

_DEEPEST = 20

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

logger = logging.getLogger(__name__)


def traceback_of(error: BaseException, depth: int = 0) -> str:
    """Type and frames of `error`, of its causes and of the errors in its group."""
    kind = type(error)
    reason = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
    lines = [f"{kind.__module__}.{kind.__qualname__}{reason}"]
    for frame, line in traceback.walk_tb(error.__traceback__):
        lines.append(f"  {frame.f_code.co_filename}:{line} in {frame.f_code.co_name}")
    within = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for one, relation in [*((part, "of these") for part in within), (cause, "caused by")]:
        if one is not None and depth < _DEEPEST:
            lines.append(f"{relation}: {traceback_of(one, depth + 1)}")
    return "\n".join(lines)


class TextFreeFormatter(logging.Formatter):
    """A log formatter that writes tracebacks by `traceback_of`."""

    def format(self, record: logging.LogRecord) -> str:
        """The formatted `record`."""
        record.exc_text = None  # another formatter has cached its own traceback there
        return super().format(record)

    def formatException(self, ei: ExcInfo) -> str:
        """The traceback of `ei` without messages."""
        return traceback_of(ei[1]) if ei[1] is not None else ""


def log_failures_of_threads() -> None:
    """Logs exceptions that end a thread or a destructor; Python itself would print their messages."""
    threading.excepthook = lambda args: _log("a thread ended", args.exc_value)
    sys.unraisablehook = lambda args: _log("an error could not be raised", args.exc_value)


def log_failure_of_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs exceptions that an event loop cannot raise.

    By default asyncio would log the task with the message.
    """
    _log(str(context["message"]).partition("\n")[0], context.get("exception"))


def _log(event: str, error: BaseException | None) -> None:
    logger.error(event, exc_info=error)
