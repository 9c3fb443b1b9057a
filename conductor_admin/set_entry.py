"""What the lifecycle remembers about one worker set, and the frozen view of it that routes may read.

Only `conductor_admin.lifecycle` writes a SetEntry; everybody else gets a SetView.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from conductor_admin.states import Failure, Phase, State
from conductor_admin.worker_client import Health, WorkerClient
from conductor_core.catalogue import StayLoaded, WorkerSet
from handlers.wire import RequestError


@dataclass(frozen=True, slots=True)
class Archive:
    """A built archive: `file` in the store, its 12-hex-digit `version`, its estimated memory in bytes."""

    file: str
    version: str
    estimated: int | None = None


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process that answers; `in_flight` counts the leases on it."""

    pid: int
    client: WorkerClient
    health: Health
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker at one moment; `waiting` is the worker's own queue."""

    pid: int
    in_flight: int
    waiting: int


@dataclass(frozen=True, slots=True)
class SetView:
    """A worker set at one moment; memory in bytes, `last_used` in Unix seconds, `progress` a fraction."""

    worker_set: WorkerSet
    state: State
    phase: Phase | None
    progress: float | None
    failure: Failure | None
    version: str | None
    device: str
    context: int | None
    estimated: int | None
    measured: int | None
    workers: tuple[WorkerView, ...]
    last_used: float | None

    @property
    def in_flight(self) -> int:
        return sum(worker.in_flight for worker in self.workers)

    @property
    def is_resident(self) -> bool:
        return self.worker_set.stay_loaded is not StayLoaded.FALSE


@dataclass(slots=True, eq=False)
class SetEntry:
    """The lifecycle's own record.

    `job` is the load or unload under way; `registered` whether TorchServe has the archive; `dead` are pids
    that must not be adopted again; `claims` are the rows that asked for the set; `ended_by` is why its
    streams were ended, where that was on purpose; `wanted` is False after an unload until the next load.
    """

    worker_set: WorkerSet
    state: State = State.UNAVAILABLE
    phase: Phase | None = None
    progress: float | None = None
    failure: Failure | None = None
    archive: Archive | None = None
    workers: dict[int, Worker] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    claims: set[str] = field(default_factory=set)
    job: asyncio.Task[None] | None = None
    registered: bool = False
    wanted: bool = True
    ended_by: Callable[[], RequestError] | None = None
    last_used: float | None = None
    drained: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return self.worker_set.name

    @property
    def in_flight(self) -> int:
        return sum(worker.in_flight for worker in self.workers.values())

    @property
    def is_resident(self) -> bool:
        return self.worker_set.stay_loaded is not StayLoaded.FALSE

    def view(self) -> SetView:
        first = next(iter(self.workers.values()), None)
        return SetView(
            worker_set=self.worker_set,
            state=self.state,
            phase=self.phase,
            progress=self.progress,
            failure=self.failure,
            version=self.archive.version if self.archive else None,
            device=(first.health.device if first else None) or self.worker_set.device,
            context=(first.health.context if first else None) or self.worker_set.context,
            estimated=self.archive.estimated if self.archive else None,
            measured=_total(worker.health.memory for worker in self.workers.values()),
            workers=tuple(
                WorkerView(pid=worker.pid, in_flight=worker.in_flight, waiting=worker.health.waiting)
                for worker in self.workers.values()
            ),
            last_used=self.last_used,
        )


def _total(sizes: Iterable[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if known else None
