"""State of one worker set: `load`, `memory` and `use`, each a record that one module writes.

`load` is written by `loads`, `memory` by `admission`, `use` by `use`, and what the set is (`worker_set`,
`draining`) by `worker_sets`. All others read, and ask the writer by a method. A test holds this.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from conductor_admin.lifecycle.load_record import LoadRecord
from conductor_admin.lifecycle.states import Failure, State
from conductor_admin.lifecycle.use import UseState
from conductor_admin.memory.usage import Idleness
from conductor_admin.workers.liveness import Condition
from conductor_admin.workers.worker import Archive, Phase, Worker
from conductor_core.catalogue import StayLoaded, WorkerSet
from handlers.wire import RequestError


@dataclass(slots=True, eq=False)
class LoadState:
    """Load, workers and end of a set.

    `progress` is a fraction. `job` is the running load or unload, `attempt` the part of a load that may be
    cancelled: all but its end. `registered` means that TorchServe has the archive. `dead` are pids that must
    not be adopted again; `starting` maps pids of workers that do not answer yet to the time they were first
    seen; `replacing` means that a lost worker has no replacement yet. `wanted` is False after an unload until
    the next load, `may_evict` allows this load to evict other sets. `ended_by` makes the error of streams, by
    their row, when they are ended on purpose. `started_at` is the monotonic time at which the load got its
    memory, `seconds` the length of the last load, None if none was timed, and `record` the record of the
    latest load.
    """

    state: State = State.UNAVAILABLE
    phase: Phase | None = None
    progress: float | None = None
    failure: Failure | None = None
    archive: Archive | None = None
    workers: dict[int, Worker] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    starting: dict[int, float] = field(default_factory=dict)
    replacing: bool = False
    job: asyncio.Task[None] | None = None
    attempt: asyncio.Task[Worker] | None = None
    registered: bool = False
    wanted: bool = True
    may_evict: bool = True
    ended_by: Callable[[str], RequestError] | None = None
    started_at: float = 0.0
    seconds: float | None = None
    record: LoadRecord | None = None

    @property
    def in_flight(self) -> int:
        return sum(worker.in_flight for worker in self.workers.values())

    @property
    def is_loaded(self) -> bool:
        """True if its workers answer, or will once TorchServe has restarted them."""
        return self.state is State.READY or (self.state is State.LOADING and self.phase == "restart")

    @property
    def ready_workers(self) -> list[Worker]:
        """The workers that may be given requests: none before the set is READY.

        A worker that does not answer gets none while another one answers.
        """
        if self.state is not State.READY:
            return []
        known = list(self.workers.values())
        return [worker for worker in known if worker.condition is Condition.READY] or known

    @property
    def running_job(self) -> asyncio.Task[None] | None:
        return self.job if self.job and not self.job.done() else None


@dataclass(slots=True)
class MemoryState:
    """Memory of a set, in bytes by device.

    `held` is what it was admitted for, None while it holds nothing; `measured` the latest figure, `peak` the
    highest since the last load. A set that waits for memory since `demanded_at` has its `position` in a
    `queue` of that length. `sampled_at` is the time of the last measurement after an answer. Times are
    monotonic seconds.
    """

    held: dict[str, int] | None = None
    measured: dict[str, int] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    position: int | None = None
    queue: int | None = None
    demanded_at: float = 0.0
    sampled_at: float = -math.inf


@dataclass(slots=True, eq=False)
class WorkerSetState:
    """State of one worker set.

    `key` is unique among sets of one name; a `draining` set serves no new requests.
    """

    worker_set: WorkerSet
    key: str
    draining: bool = False
    load: LoadState = field(default_factory=LoadState)
    memory: MemoryState = field(default_factory=MemoryState)
    use: UseState = field(default_factory=UseState)

    @property
    def name(self) -> str:
        return self.worker_set.name

    @property
    def is_busy(self) -> bool:
        return self.load.in_flight > 0 or self.use.waiting > 0

    @property
    def idleness(self) -> Idleness:
        worker_set = self.worker_set
        return Idleness(worker_set.idle_timeout_s, stays=worker_set.stay_loaded is not StayLoaded.FALSE)

    def eta_s(self, now: float) -> float | None:
        """Seconds that the load will still take; None if none was timed or this one takes longer."""
        load = self.load
        begun = load.state is State.LOADING and load.phase in ("start", "restart")
        if load.seconds is None or not begun or self.memory.held is None:
            return None
        left = load.started_at + load.seconds - now
        return left if left > 0 else None
