"""Tracebacks in logs have code positions, never messages of errors."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
import threading
from collections.abc import Iterator

import pytest

from handlers.diagnostics.tracebacks import (
    TextFreeFormatter,
    log_failure_of_loop,
    log_failures_of_threads,
    traceback_of,
)

SECRET = "what the client wrote"


def fail(error: BaseException) -> BaseException:
    """Raises and catches `error`, with a cause that contains the secret too."""
    nothing: dict[str, int] = {}
    try:
        try:
            nothing[SECRET]
        except KeyError as cause:
            raise error from cause
    except BaseException:
        pass
    return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError(SECRET),
        ExceptionGroup(SECRET, [ValueError(SECRET), TypeError(SECRET)]),
        UnicodeEncodeError("utf-8", SECRET, 0, 1, SECRET),
    ],
)
def test_a_traceback_says_where_and_never_what(error: BaseException) -> None:
    told = traceback_of(fail(error))
    assert SECRET not in told
    assert type(error).__name__ in told
    assert "builtins.KeyError" in told
    assert f"{__file__}:" in told
    assert " in fail" in told


def test_the_systems_own_words_are_kept() -> None:
    told = traceback_of(fail(OSError(28, "No space left on device", f"/tmp/{SECRET}")))
    assert "No space left on device" in told
    assert SECRET not in told


def test_a_circle_of_causes_ends() -> None:
    error = ValueError("a")
    error.__cause__ = error
    assert traceback_of(error).count("caused by") < 100


def test_a_log_line_keeps_its_event_and_loses_the_message() -> None:
    error = fail(ValueError(SECRET))
    record = logging.LogRecord(
        "n", logging.ERROR, __file__, 1, "failed", None, (type(error), error, error.__traceback__)
    )
    line = TextFreeFormatter("%(levelname)s: %(message)s").format(record)
    assert line.startswith("ERROR: failed\nbuiltins.ValueError\n")
    assert SECRET not in line


@contextlib.contextmanager
def formatted(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Formats the log of the test as a worker does."""
    before = caplog.handler.formatter
    caplog.handler.setFormatter(TextFreeFormatter("%(message)s"))
    yield
    caplog.handler.setFormatter(before)


async def test_a_task_that_nobody_asked_is_logged_without_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_failure_of_loop)
    with formatted(caplog):
        task = loop.create_task(_raise())
        await asyncio.wait([task])
        del task
        gc.collect()
    assert SECRET not in caplog.text
    assert "Task exception was never retrieved" in caplog.text


def test_a_thread_that_fails_is_logged_without_its_message(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    log_failures_of_threads()
    with formatted(caplog):
        thread = threading.Thread(target=_raise_in_thread)
        thread.start()
        thread.join(5)
    assert SECRET not in caplog.text
    assert "a thread ended" in caplog.text


async def _raise() -> None:
    raise ValueError(SECRET)


def _raise_in_thread() -> None:
    raise ValueError(SECRET)
