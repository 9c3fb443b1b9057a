"""Structured logs: one JSON object a line, in a rotating file, and on standard error that is no terminal.

Prompts and answers are never logged; every line of a request carries its id.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path

import orjson
import structlog

from handlers.library_text import hide_library_text
from handlers.tracebacks import traceback_of

_FILE_BYTES = 20 * 2**20
_FILES = 5


def configure_logs(folder: Path, level: str) -> None:
    """Send the logs of this process, those of libraries included, to `<folder>/gateway.log`."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(_without_messages),
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
            structlog.processors.JSONRenderer(serializer=_json),
        ],
    )
    root = logging.getLogger()
    root.handlers[:] = _handlers(folder, formatter)
    root.setLevel(level)


def _handlers(folder: Path, formatter: logging.Formatter) -> list[logging.Handler]:
    file = logging.handlers.RotatingFileHandler(
        folder / "gateway.log", maxBytes=_FILE_BYTES, backupCount=_FILES, encoding="utf-8"
    )
    handlers: list[logging.Handler] = [file]
    if not sys.stderr.isatty():
        handlers.append(logging.StreamHandler(sys.stderr))
    for handler in handlers:
        handler.setFormatter(formatter)
    hide_library_text(handlers)
    return handlers


def _without_messages(exc_info: structlog.typing.ExcInfo) -> str:
    return traceback_of(exc_info[1])


def _json(value: object, **_: object) -> str:
    return orjson.dumps(value, default=str).decode()
