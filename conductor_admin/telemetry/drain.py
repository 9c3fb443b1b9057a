"""A bounded queue of log lines before a file or a pipe; a thread of its own writes them.

An unread pipe or a full disk costs lines, never time: lines that do not fit are dropped and counted, and one
line reports their number once writing works again.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

MOST_BYTES = 4 * 2**20

_CLOSE_S = 1.0


class Drain:
    """Queue before `write`, which may block or raise OSError; `dropped_line(n)` reports n lost lines."""

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
        # A daemon: a thread that is stuck in a full pipe must not delay the end of the process.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue `line`, or drop it if the queue is full; never waits."""
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
        while True:
            with self._changed:
                while not self._lines and not self._is_closed:
                    self._changed.wait()
                if not self._lines:
                    return
                line = self._lines.popleft()
                self._bytes -= len(line)
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


def to_descriptor(number: int) -> Callable[[bytes], None]:
    """Make a writer to a file descriptor without Python's buffer, whose lock could delay the end."""

    def write(data: bytes) -> None:
        while data:
            data = data[os.write(number, data) :]

    return write
