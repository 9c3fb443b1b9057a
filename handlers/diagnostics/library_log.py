"""Redirects the output of libraries to a log file of this worker, and keeps these files few and small.

TorchServe reads a worker's output line by line through its logger, and a library that prints much would block
on that pipe.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path

LOG_BYTES = 4 * 2**20
"""Size at which a log is rotated; its last LOG_BYTES are kept as `<name>.1`."""
KEPT_LOGS = 10
"""Logs kept of workers that have ended. With the two parts of each they take at most 80 MiB."""
_LOOK_S = 1.0
_OF_A_WORKER = re.compile(r"[^/]+-([0-9]{1,10})\.log")


def log_folder() -> Path:
    """`CONDUCTOR_LOG_DIR`, else the log folder of the TorchServe that started this process."""
    named = os.environ.get("CONDUCTOR_LOG_DIR") or os.environ.get("LOG_LOCATION")
    return Path(named) if named else Path(f"/proc/{os.getppid()}/cwd").resolve() / "logs"


def redirect_output(path: Path) -> Callable[[], None]:
    """Redirects file descriptors 1 and 2 to `path`, appending; the returned function restores them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    saved = [os.dup(1), os.dup(2)]
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    _point([log, log])
    os.close(log)
    # stdout was a pipe and is block-buffered; a killed worker would lose the buffered lines.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    return lambda: _point(saved)


def _point(targets: list[int]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    for number, target in enumerate(targets, start=1):
        os.dup2(target, number)


def keep_small(path: Path) -> None:
    """Starts a thread that rotates `path` whenever it is too large."""

    def look() -> None:
        while True:
            time.sleep(_LOOK_S)
            rotate(path)

    threading.Thread(target=look, name="log-rotation", daemon=True).start()


def rotate(path: Path) -> None:
    """Copies the last part of a log of more than LOG_BYTES to `<name>.1` and empties the log; raises nothing.

    The file is emptied in place because its writers (native libraries and the JVM too) hold its descriptor
    and cannot open another file. So a line that is written between the copy and the truncation is lost. A
    pipe with a reader would lose none, but would block the writers whenever the reader stops. The writers
    must append (O_APPEND), else their next line would leave a hole of the old size.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size <= LOG_BYTES:
            return
        with path.open("r+b") as log:
            with contextlib.suppress(OSError):  # a full disk: empty the log without a copy, which frees space
                log.seek(-LOG_BYTES, os.SEEK_END)
                last, second = log.read(LOG_BYTES), _second(path)
                second.unlink(missing_ok=True)
                private = os.open(second, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(private, "wb") as copy:
                    copy.write(last)
            log.truncate(0)


def sweep(folder: Path) -> None:
    """Removes all logs of ended workers except the newest KEPT_LOGS; raises nothing."""
    ended: list[tuple[float, Path]] = []
    for log in folder.glob("*.log"):
        named = _OF_A_WORKER.fullmatch(log.name)
        # A deleted file that a living worker holds would go on growing unseen.
        if named is None or Path(f"/proc/{named[1]}").exists():
            continue
        try:
            changed = log.stat().st_mtime
        except OSError:  # another starting worker may have removed it
            changed = 0.0
        ended.append((changed, log))
    for _, log in sorted(ended, reverse=True)[KEPT_LOGS:]:
        for part in (log, _second(log)):
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def _second(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")
