"""Sends what libraries print, native ones included, to a file of this worker.

TorchServe reads a worker's output line by line through its logger, and a chatty library stalls on that pipe.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path


def log_folder() -> Path:
    """`CONDUCTOR_LOG_DIR`, else where the TorchServe that started this process keeps its own logs."""
    named = os.environ.get("CONDUCTOR_LOG_DIR") or os.environ.get("LOG_LOCATION")
    return Path(named) if named else Path(f"/proc/{os.getppid()}/cwd").resolve() / "logs"


def redirect_output(path: Path) -> Callable[[], None]:
    """Points file descriptors 1 and 2 at `path`, appending; the returned call points them back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = [os.dup(1), os.dup(2)]
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    _point([log, log])
    os.close(log)
    # TorchServe's pipe made stdout keep its lines back, and a killed worker would take them along.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    return lambda: _point(saved)


def _point(targets: list[int]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    for number, target in enumerate(targets, start=1):
        os.dup2(target, number)
