"""Worker sets: the lifecycle's record of each, the frozen view for routes, and the table of who serves a row.

A set is asked for by the slug of any of its rows; its name is that of its first. One that is retired takes no
new request; it stays in the table until its workers and their memory are gone. Modules of the lifecycle alone
write a SetEntry; everybody else gets a SetView.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from archives.weights_info import KnownWeights
from conductor_admin.lifecycle.errors import row_removed
from conductor_admin.lifecycle.load_record import LoadStory
from conductor_admin.lifecycle.states import Failure, State
from conductor_admin.memory.usage import Idleness, Use
from conductor_admin.workers.liveness import Condition
from conductor_admin.workers.worker import Archive, Phase, Worker
from conductor_core.catalogue import Row, StayLoaded, WorkerSet
from handlers.wire import RequestError


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


class SetTable:
    """`entries` are all sets that may hold anything, by key; each row is served by one of them."""

    def __init__(self, sets: Iterable[WorkerSet]) -> None:
        self.entries: dict[str, SetEntry] = {}
        self._serial = count(2)
        self._serving: dict[str, SetEntry] = {}
        for worker_set in sets:
            self.serve(self.add(worker_set))

    def add(self, worker_set: WorkerSet) -> SetEntry:
        """A new entry that serves no row yet."""
        key = worker_set.name
        while key in self.entries:
            key = f"{worker_set.name}#{next(self._serial)}"
        entry = self.entries[key] = SetEntry(worker_set, key)
        return entry

    def serve(self, entry: SetEntry) -> None:
        """Let the entry answer for all its rows from now on."""
        self._serving |= {row.slug: entry for row in entry.worker_set.rows}

    def serve_new(self, entry: SetEntry) -> None:
        """Let the entry answer for those of its rows that nothing else that is loaded answers for."""
        for row in entry.worker_set.rows:
            other = self._serving.get(row.slug)
            if other is None or not other.is_loaded:
                self._serving[row.slug] = entry

    def keep_rows(self, slugs: Collection[str]) -> None:
        """Forget rows that are not among `slugs`, and list the others in their order."""
        self._serving = {slug: self._serving[slug] for slug in slugs if slug in self._serving}

    def named(self, slug: str) -> SetEntry:
        """What answers for the row `slug`, or did and still does for those who have it.

        Raises RequestError 404 once that is gone too.
        """
        if entry := self._serving.get(slug):
            return entry
        for entry in self.entries.values():
            if any(row.slug == slug for row in entry.worker_set.rows):
                return entry
        raise row_removed(slug)

    def serving(self, slug: str) -> SetEntry | None:
        """What answers requests for the row `slug`, if it still takes any."""
        entry = self._serving.get(slug)
        return entry if entry and not entry.retired else None

    def serves_beside(self, entry: SetEntry) -> bool:
        """Whether another one that is loaded answers for a row of `entry`."""
        others = [self._serving.get(row.slug) for row in entry.worker_set.rows]
        return any(other and other is not entry and other.is_loaded for other in others)

    def present(self) -> list[SetEntry]:
        """The entries that answer for a row, each once."""
        return [entry for entry in dict.fromkeys(self._serving.values()) if not entry.retired]

    def forget_gone(self) -> None:
        """Drop retired entries that hold nothing any more."""
        gone = [e for e in self.entries.values() if e.retired and e.held is None and not e.has_job]
        for entry in gone:
            del self.entries[entry.key]


def is_ready(views: Sequence[SetView], torchserve_up: bool) -> bool:
    """Tell whether requests can be served: residents are settled, and at least one set has not failed.

    Without TorchServe nothing can be loaded; workers that are loaded serve without it.
    """
    settled = all(view.state in (State.READY, State.FAILED) for view in views if view.is_resident)
    can_serve = any(view.state is not State.FAILED for view in views)
    return settled and can_serve and (torchserve_up or any(view.state is State.READY for view in views))
