"""One builder at a time for one set of weights, across processes."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archives.errors import BuildCancelled
from archives.progress import BuildProgress

_RETRY_S = 0.2


@contextmanager
def weights_lock(path: Path, progress: BuildProgress, stop: threading.Event) -> Iterator[None]:
    """Hold the lock file `path`; a wait for another builder is announced once. BuildCancelled if stopped.

    The kernel drops the lock when its holder dies, so a lock file that remains means nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        if not _taken(file.fileno()):
            progress.update("wait", 0, None, f"another build is making {path.stem}")
            while not _taken(file.fileno()):
                if stop.wait(_RETRY_S):
                    raise BuildCancelled
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
