"""A bounded queue of lines before a file or a pipe, which a thread of its own empties.

A pipe that nobody reads, and a disk that is full, cost lines and never time: what finds no room is dropped
and counted, and the number is told once something can be written again.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

MOST_BYTES = 4 * 2**20

_CLOSE_S = 1.0


class Drain:
    """Lines on their way to `write`, which may block or raise OSError; `dropped_line(n)` tells of a loss."""

    def __init__(
        self, write: Callable[[bytes], object], dropped_line: Callable[[int], bytes], name: str
    ) -> None:
        self._write = write
        self._dropped_line = dropped_line
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._is_closed = False
        self._changed = threading.Condition()
        # A daemon: one that is stuck in a full pipe must not hold the end of the process.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue `line`, or drop it where the queue is full; never waits."""
        with self._changed:
            if self._is_closed or self._bytes + len(line) > MOST_BYTES:
                self._dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)
            self._changed.notify()

    def close(self, timeout_s: float = _CLOSE_S) -> None:
        """Write what is queued, for `timeout_s` at most."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (line := self._next()) is not None:
            with self._changed:
                dropped = self._dropped
            try:
                if dropped:
                    self._write(self._dropped_line(dropped))
                    with self._changed:
                        self._dropped -= dropped
                self._write(line)
            except OSError:
                with self._changed:
                    self._dropped += 1

    def _next(self) -> bytes | None:
        with self._changed:
            while not self._lines and not self._is_closed:
                self._changed.wait()
            if not self._lines:
                return None
            line = self._lines.popleft()
            self._bytes -= len(line)
            return line


def to_descriptor(number: int) -> Callable[[bytes], None]:
    """A writer to a file descriptor, past Python's own buffer, whose lock would be waited for at the end."""

    def write(data: bytes) -> None:
        while data:
            data = data[os.write(number, data) :]

    return write
