"""Ends a worker whose TorchServe is gone.

A parent-death signal would not do: the kernel sends it when the *thread* that forked ends, and TorchServe
forks workers from a thread pool whose threads come and go while the JVM lives on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

INTERVAL_S = 0.5


def watch_parent(orphaned: Callable[[], None]) -> None:
    """Calls `orphaned` once, from a thread of its own, soon after the parent process has ended."""
    parent = os.getppid()

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(INTERVAL_S)
        orphaned()

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()
