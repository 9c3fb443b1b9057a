"""Structured logs: one JSON object a line, in a rotating file, and on standard error unless it is a terminal.

Prompts and answers are never logged; every line of a request has its id. Logging never waits: threads write,
and drop lines that a full disk or an unread pipe does not take.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import structlog

from conductor_admin.telemetry.drain import Drain, to_descriptor
from conductor_admin.telemetry.log_file import LogFile
from handlers.diagnostics.library_text import hide_library_text
from handlers.diagnostics.tracebacks import traceback_of

_FILE_BYTES = 20 * 2**20
_FILES = 5


def configure_logs(folder: Path, level: str) -> Callable[[], None]:
    """Send the logs of this process, those of libraries included, to `<folder>/gateway.log`.

    Call the result to stop and to write the lines that are left.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(lambda raised: traceback_of(raised[1])),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(
                serializer=lambda value, **_: orjson.dumps(value, default=str).decode()
            ),
        ],
    )
    # Else each line that a full disk refuses would print a traceback on standard error.
    logging.raiseExceptions = False
    root = logging.getLogger()
    file = LogFile(folder / "gateway.log", _FILE_BYTES, _FILES)
    drains = [Drain(file.write, _dropped, "log file")]
    if not sys.stderr.isatty():
        drains.append(Drain(to_descriptor(2), _dropped, "log stderr"))
    handler = _ToDrains(drains)
    handler.setFormatter(formatter)
    hide_library_text([handler])
    root.handlers[:] = [handler]
    root.setLevel(level)

    def close() -> None:
        root.removeHandler(handler)
        for drain in drains:
            drain.close()
        file.close()

    return close


class _ToDrains(logging.Handler):
    """Formats each record once and puts it into all drains."""

    def __init__(self, drains: list[Drain]) -> None:
        super().__init__()
        self._drains = drains

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        for drain in self._drains:
            drain.put(line)


def _dropped(lines: int) -> bytes:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return orjson.dumps(
        {"event": "log_lines_dropped", "lines": lines, "level": "warning", "timestamp": now},
        option=orjson.OPT_APPEND_NEWLINE,
    )
