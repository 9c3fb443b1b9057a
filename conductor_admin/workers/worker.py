"""Worker processes of a loaded archive, and the choice of the worker that gets a request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from conductor_admin.workers.client import WorkerClient, WorkerHealth
from conductor_admin.workers.liveness import Condition, Liveness
from handlers.wire import WIRE_VERSION

WORTH_MOVING = 4
"""Number of extra requests in flight that costs more than reading a conversation again elsewhere."""

Phase = Literal["download", "convert", "wait", "start", "warm", "restart"]
"""Phase of a LOADING set; `wait` is for memory that other sets hold."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A built archive: `file` in the store, `name` in TorchServe, `version` of 12 hex digits, its memory.

    `identity` identifies the content of the weights, `contexts` is as in `KnownWeights`.
    """

    file: str
    name: str
    version: str
    estimated: int | None = None
    identity: str = ""
    contexts: float | None = None


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process that answered once; `in_flight` counts the leases on it."""

    pid: int
    client: WorkerClient
    health: WorkerHealth
    in_flight: int = 0
    liveness: Liveness = field(default_factory=Liveness)

    @property
    def condition(self) -> Condition:
        return self.liveness.condition


def least_busy(workers: Iterable[Worker]) -> Worker | None:
    """The worker with the fewest requests in flight, the first of equals; None without workers."""
    return min(workers, key=lambda worker: worker.in_flight, default=None)


def best_worker(workers: Iterable[Worker], preferred: int | None) -> Worker | None:
    """The worker with the pid `preferred`, unless it is gone or much busier than the least busy one."""
    known = list(workers)
    least = least_busy(known)
    for worker in known:
        if least and worker.pid == preferred and worker.in_flight - least.in_flight < WORTH_MOVING:
            return worker
    return least


def health_fault(health: WorkerHealth, version: str) -> str | None:
    """The reason why a worker that answers must not be used, or None."""
    if health.wire != WIRE_VERSION:
        return (
            f"the worker speaks wire version {health.wire}, this gateway {WIRE_VERSION}: rebuild the archives"
        )
    if health.version != version:
        return f"the worker serves archive version {health.version}, expected {version}"
    return None
