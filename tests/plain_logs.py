"""Logging of tests: to standard output, with plain tracebacks."""

from __future__ import annotations

import structlog


def log_plainly() -> None:
    """Configures structlog for tests; by default it renders each traceback with its source, which is slow."""
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.reset_defaults()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            renderer,
        ]
    )
