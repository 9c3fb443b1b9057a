"""Workers without a process, for tests of pure decisions."""

from __future__ import annotations

from pathlib import Path

from conductor_admin.workers.client import WorkerClient, WorkerHealth
from conductor_admin.workers.worker import Worker
from handlers.wire import WIRE_VERSION


def some_worker(pid: int, in_flight: int) -> Worker:
    """A worker with that many requests in flight."""
    return Worker(
        pid, WorkerClient(Path(f"{pid}.sock")), WorkerHealth(wire=WIRE_VERSION, version="a"), in_flight
    )
