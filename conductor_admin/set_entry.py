"""What the lifecycle remembers about one worker set, and the frozen view of it that routes may read.

Only `conductor_admin.lifecycle` writes a SetEntry; everybody else gets a SetView.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from archives.weights_info import KnownWeights
from conductor_admin.idle import Idleness, Use
from conductor_admin.load_story import LoadStory
from conductor_admin.states import Failure, Phase, State
from conductor_admin.worker_client import Health, WorkerClient
from conductor_admin.workers.liveness import Condition, Liveness
from conductor_core.catalogue import Row, StayLoaded, WorkerSet
from handlers.wire import RequestError


@dataclass(frozen=True, slots=True)
class Archive:
    """A built archive: `file` in the store, `name` in TorchServe, `version` of 12 hex digits, its memory.

    `identity` tells one content of the weights from another, `contexts` is as in `KnownWeights`.
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
    health: Health
    in_flight: int = 0
    liveness: Liveness = field(default_factory=Liveness)

    @property
    def condition(self) -> Condition:
        return self.liveness.condition


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker at one moment; `waiting` is the worker's own queue, `loop_held` as `Health` has it."""

    pid: int
    condition: Condition
    in_flight: int
    waiting: int
    loop_held: int = 0
    loop_longest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SetView:
    """A worker set at one moment; memory in bytes, `last_used` and `expires_at` in Unix seconds, `progress` a
    fraction, `position` the place among the `queue` sets that wait for memory, `eta_s` the seconds that a
    load will still take where earlier ones were timed. `peak` is the highest that was ever measured here,
    `replacing` is whether a worker was lost that has no successor yet.
    """

    worker_set: WorkerSet
    state: State
    phase: Phase | None
    progress: float | None
    failure: Failure | None
    version: str | None
    device: str
    context: int | None
    estimated: int | None
    contexts: float | None
    measured: int | None
    peak: int | None
    workers: tuple[WorkerView, ...]
    last_used: float | None
    expires_at: float | None
    position: int | None
    queue: int | None
    eta_s: float | None
    replacing: bool = False

    @property
    def in_flight(self) -> int:
        return sum(worker.in_flight for worker in self.workers)

    @property
    def unresponsive(self) -> list[int]:
        """Pids of the workers that do not answer, but may only be busy."""
        return [worker.pid for worker in self.workers if worker.condition is not Condition.READY]

    def row(self, slug: str) -> Row:
        """The row as this set serves it; one that it serves until its own set is loaded is as its first."""
        return self.worker_set.row(slug)

    @property
    def is_resident(self) -> bool:
        return self.worker_set.stay_loaded is StayLoaded.TRUE


@dataclass(slots=True, eq=False)
class SetEntry:
    """The lifecycle's own record.

    `key` tells it from others of the same name; `retired` ones serve nobody any more. `job` is the load or
    unload under way; `registered` whether TorchServe has the archive; `dead` are pids never to be adopted
    again; `starting` are workers that do not answer yet, with the time when each was first seen; `replacing`
    says that a worker was lost and has no successor yet; `claims` are the rows that asked for the set;
    `ended_by` is what its streams get, by their row, when ended on purpose; `wanted` is False after an unload
    until the next load. `waiting` counts requests that have no worker yet, `may_evict` is whether others may
    be unloaded for this load. Memory is by device: `held` what the set was admitted with, None while it holds
    nothing; `measured` now and `peak` in this life. Times are monotonic: `demanded_at` when it asked for
    memory, `started_at` when its load began, `sampled_at` when an answer's end was last measured, `expires`
    when it will have been idle for long enough; `load_s` is how long the last load took, None before the
    first, and `story` what happened in it.
    """

    worker_set: WorkerSet
    key: str
    retired: bool = False
    state: State = State.UNAVAILABLE
    phase: Phase | None = None
    progress: float | None = None
    failure: Failure | None = None
    archive: Archive | None = None
    workers: dict[int, Worker] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    starting: dict[int, float] = field(default_factory=dict)
    replacing: bool = False
    claims: set[str] = field(default_factory=set)
    job: asyncio.Task[None] | None = None
    registered: bool = False
    wanted: bool = True
    waiting: int = 0
    may_evict: bool = True
    held: dict[str, int] | None = None
    measured: dict[str, int] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    position: int | None = None
    queue: int | None = None
    demanded_at: float = 0.0
    started_at: float = 0.0
    load_s: float | None = None
    story: LoadStory | None = None
    sampled_at: float = -math.inf
    expires: float = math.inf
    use: Use = field(default_factory=Use)
    ended_by: Callable[[str], RequestError] | None = None
    last_used: float | None = None
    drained: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return self.worker_set.name

    def enter(self, phase: Phase | None, progress: float | None = None) -> None:
        """The load is in that phase now, and so far in it."""
        self.phase, self.progress = phase, progress
        if self.story and phase:
            self.story.enter(phase)

    @property
    def in_flight(self) -> int:
        return sum(worker.in_flight for worker in self.workers.values())

    @property
    def is_loaded(self) -> bool:
        """Whether its workers answer, or will as soon as TorchServe has restarted them."""
        return self.state is State.READY or (self.state is State.LOADING and self.phase == "restart")

    @property
    def ready_workers(self) -> list[Worker]:
        """The workers that may be given requests: none before the set is READY.

        One that does not answer gets none while another one does.
        """
        if self.state is not State.READY:
            return []
        known = list(self.workers.values())
        return [worker for worker in known if worker.condition is Condition.READY] or known

    @property
    def has_job(self) -> bool:
        return self.job is not None and not self.job.done()

    @property
    def is_busy(self) -> bool:
        return self.in_flight > 0 or self.waiting > 0

    @property
    def idleness(self) -> Idleness:
        worker_set = self.worker_set
        return Idleness(worker_set.idle_timeout_s, stays=worker_set.stay_loaded is not StayLoaded.FALSE)

    def eta_s(self, now: float) -> float | None:
        """Seconds that the load will still take; None where no load was timed, or this one takes longer."""
        begun = self.state is State.LOADING and self.phase in ("start", "restart") and self.held is not None
        if self.load_s is None or not begun:
            return None
        left = self.started_at + self.load_s - now
        return left if left > 0 else None

    def view(self, known: KnownWeights, peak: int | None) -> SetView:
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
            estimated=known.memory,
            contexts=known.contexts,
            measured=self.measured.get(self.worker_set.device),
            peak=peak,
            workers=tuple(
                WorkerView(
                    pid=worker.pid,
                    condition=worker.condition,
                    in_flight=worker.in_flight,
                    waiting=worker.health.waiting,
                    loop_held=worker.health.loop_held,
                    loop_longest_s=worker.health.loop_longest_s,
                )
                for worker in self.workers.values()
            ),
            last_used=self.last_used,
            expires_at=self._expires_at(),
            position=self.position,
            queue=self.queue,
            eta_s=self.eta_s(time.monotonic()),
            replacing=self.replacing,
        )

    def _expires_at(self) -> float | None:
        if self.state is not State.READY or self.in_flight or math.isinf(self.expires):
            return None
        return time.time() + self.expires - time.monotonic()
