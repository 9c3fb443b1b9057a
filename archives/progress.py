"""Progress of a build: the protocol, and its implementations for a terminal and for a log."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

STEP_PERCENT = 10


class BuildProgress(Protocol):
    """Receives the progress of a build, in the thread that builds.

    `phase` is wait, download, convert or archive; `done` and `total` have the same unit (bytes for a
    download, else steps), `total` is None if unknown; `message` is one line for people.
    """

    def update(self, phase: str, done: int, total: int | None, message: str) -> None: ...


class Silent:
    """Shows nothing."""

    def update(self, phase: str, done: int, total: int | None, message: str) -> None:
        del phase, done, total, message


class Lines:
    """Prints one line for each new message and for each further tenth: for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: tuple[str, int] | None = None

    def update(self, phase: str, done: int, total: int | None, message: str) -> None:
        percent = min(100, done * 100 // total) // STEP_PERCENT * STEP_PERCENT if total else 0
        if self._last == (message, percent):
            return
        self._last = (message, percent)
        share = f" {percent}%" if total else ""
        print(f"{phase}: {message}{share}", file=self._stream, flush=True)


class Bars:
    """Shows one progress bar on a terminal."""

    def __init__(self, console: Console) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=console, transient=True)
        self._task: TaskID | None = None
        self._message = ""

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def update(self, phase: str, done: int, total: int | None, message: str) -> None:
        if self._task is None or message != self._message:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task = self._bars.add_task(f"{phase}: {message}", total=total)
            self._message = message
        self._bars.update(self._task, completed=done, total=total)


def progress_for(stream: TextIO = sys.stderr) -> Bars | Lines:
    """Bars if `stream` is a terminal (use them as a context manager), else lines."""
    return Bars(Console(file=stream)) if stream.isatty() else Lines(stream)
