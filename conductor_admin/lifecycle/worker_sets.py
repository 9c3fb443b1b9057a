"""Worker sets: the mutable record of each, a frozen view for routes, and the table of which set serves a row.

Requests name a set by the slug of any of its rows; its own name is that of its first row. A retired set takes
no new request and stays in the table until its workers and their memory are gone. Only modules of the
lifecycle write a WorkerSetState; all others get a WorkerSetView.
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
from conductor_admin.lifecycle.load_record import LoadRecord
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
class WorkerSetView:
    """A worker set at one moment; memory in bytes, `last_used` and `expires_at` in Unix seconds, `progress` a
    fraction, `position` the place among the `queue` sets that wait for memory, `eta_s` the seconds that a
    load will still take if earlier ones were timed. `peak` is the highest measured on this machine,
    `replacing` is True while a lost worker has no replacement.
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
        """Pids of workers that do not answer; they may hang or only be busy."""
        return [worker.pid for worker in self.workers if worker.condition is not Condition.READY]

    def row(self, slug: str) -> Row:
        """The row as this set serves it; the set's first row if `slug` is served here only for now."""
        return self.worker_set.row(slug)

    @property
    def is_resident(self) -> bool:
        return self.worker_set.stay_loaded is StayLoaded.TRUE


@dataclass(slots=True, eq=False)
class WorkerSetState:
    """The lifecycle's record of one worker set.

    `key` is unique among sets of one name; a `draining` set serves no new requests. `job` is the running load
    or unload; `registered` means that TorchServe has the archive; `dead` are pids that must not be adopted
    again; `starting` maps pids of workers that do not answer yet to the time they were first seen;
    `replacing` means that a lost worker has no replacement yet; `claims` are the rows that asked for the set;
    `ended_by` makes the error of streams, by their row, when they are ended on purpose; `wanted` is False
    after an unload until the next load. `waiting` counts requests without a worker, `may_evict` allows this
    load to evict other sets. Memory is in bytes by device: `held` is the admission, None while the set holds
    nothing; `measured` the latest figure, `peak` the highest since the last load. Times are monotonic
    seconds: `demanded_at` of the demand for memory, `started_at` of the load, `sampled_at` of the last
    measurement after an answer, `expires` of the end by idleness. `load_s` are the seconds of the last load,
    None before the first; `load_record` is the record of the latest load.
    """

    worker_set: WorkerSet
    key: str
    draining: bool = False
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
    load_record: LoadRecord | None = None
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
        """Set the phase of the load and its progress, a fraction."""
        self.phase, self.progress = phase, progress
        if self.load_record and phase:
            self.load_record.enter(phase)

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
        """Seconds that the load will still take; None if none was timed or this one takes longer."""
        begun = self.state is State.LOADING and self.phase in ("start", "restart") and self.held is not None
        if self.load_s is None or not begun:
            return None
        left = self.started_at + self.load_s - now
        return left if left > 0 else None

    def view(self, known: KnownWeights, peak: int | None) -> WorkerSetView:
        first = next(iter(self.workers.values()), None)
        return WorkerSetView(
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


class WorkerSetTable:
    """Table of all sets: `entries` by key, and the entry that serves each row."""

    def __init__(self, sets: Iterable[WorkerSet]) -> None:
        self.entries: dict[str, WorkerSetState] = {}
        self._serial = count(2)
        self._serving: dict[str, WorkerSetState] = {}
        for worker_set in sets:
            self.serve(self.add(worker_set))

    def add(self, worker_set: WorkerSet) -> WorkerSetState:
        """Add an entry that serves no row yet."""
        key = worker_set.name
        while key in self.entries:
            key = f"{worker_set.name}#{next(self._serial)}"
        entry = self.entries[key] = WorkerSetState(worker_set, key)
        return entry

    def serve(self, entry: WorkerSetState) -> None:
        """Let the entry serve all its rows from now on."""
        self._serving |= {row.slug: entry for row in entry.worker_set.rows}

    def serve_new(self, entry: WorkerSetState) -> None:
        """Let the entry serve those of its rows that no other loaded set serves."""
        for row in entry.worker_set.rows:
            other = self._serving.get(row.slug)
            if other is None or not other.is_loaded:
                self._serving[row.slug] = entry

    def keep_rows(self, slugs: Collection[str]) -> None:
        """Forget rows that are not among `slugs`; keep the others in that order."""
        self._serving = {slug: self._serving[slug] for slug in slugs if slug in self._serving}

    def named(self, slug: str) -> WorkerSetState:
        """The set that serves the row `slug`, or one that still exists and once served it.

        Raises RequestError 404 if there is none.
        """
        if entry := self._serving.get(slug):
            return entry
        for entry in self.entries.values():
            if any(row.slug == slug for row in entry.worker_set.rows):
                return entry
        raise row_removed(slug)

    def serving(self, slug: str) -> WorkerSetState | None:
        """The set that takes requests for the row `slug`, or None."""
        entry = self._serving.get(slug)
        return entry if entry and not entry.draining else None

    def serves_beside(self, entry: WorkerSetState) -> bool:
        """True if another loaded set serves a row of `entry`."""
        others = [self._serving.get(row.slug) for row in entry.worker_set.rows]
        return any(other and other is not entry and other.is_loaded for other in others)

    def present(self) -> list[WorkerSetState]:
        """The entries that serve a row, each once."""
        return [entry for entry in dict.fromkeys(self._serving.values()) if not entry.draining]

    def forget_gone(self) -> None:
        """Drop retired entries that hold no memory and run no job."""
        gone = [e for e in self.entries.values() if e.draining and e.held is None and not e.has_job]
        for entry in gone:
            del self.entries[entry.key]


def is_ready(views: Sequence[WorkerSetView], torchserve_up: bool) -> bool:
    """True if requests can be served: residents are READY or FAILED, and not all sets have FAILED.

    Without TorchServe nothing can be loaded, but loaded workers still serve.
    """
    settled = all(view.state in (State.READY, State.FAILED) for view in views if view.is_resident)
    can_serve = any(view.state is not State.FAILED for view in views)
    return settled and can_serve and (torchserve_up or any(view.state is State.READY for view in views))
