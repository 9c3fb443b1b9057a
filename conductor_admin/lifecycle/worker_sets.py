"""Worker sets: a frozen view of each for routes, and the table of which set serves a row.

Requests name a set by the slug of any of its rows; its own name is that of its first row. A retired set takes
no new request and stays in the table until its workers and their memory are gone. Only this module writes
which rows a WorkerSetState serves. Modules outside of the lifecycle get a WorkerSetView.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from archives.weights_info import KnownWeights
from conductor_admin.lifecycle.errors import row_removed
from conductor_admin.lifecycle.set_state import WorkerSetState
from conductor_admin.lifecycle.states import Failure, State
from conductor_admin.workers.liveness import Condition
from conductor_admin.workers.worker import Phase
from conductor_core.catalogue import Row, StayLoaded, WorkerSet


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


def view_of(entry: WorkerSetState, known: KnownWeights, peak: int | None) -> WorkerSetView:
    """View of the set now, with what is known of its weights and its peak memory."""
    load, memory = entry.load, entry.memory
    first = next(iter(load.workers.values()), None)
    return WorkerSetView(
        worker_set=entry.worker_set,
        state=load.state,
        phase=load.phase,
        progress=load.progress,
        failure=load.failure,
        version=load.archive.version if load.archive else None,
        device=(first.health.device if first else None) or entry.worker_set.device,
        context=(first.health.context if first else None) or entry.worker_set.context,
        estimated=known.memory,
        contexts=known.contexts,
        measured=memory.measured.get(entry.worker_set.device),
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
            for worker in load.workers.values()
        ),
        last_used=entry.use.last_used,
        expires_at=_expires_at(entry),
        position=memory.position,
        queue=memory.queue,
        eta_s=entry.eta_s(time.monotonic()),
        replacing=load.replacing,
    )


def _expires_at(entry: WorkerSetState) -> float | None:
    if entry.load.state is not State.READY or entry.load.in_flight or math.isinf(entry.use.expires):
        return None
    return time.time() + entry.use.expires - time.monotonic()


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

    @staticmethod
    def change(entry: WorkerSetState, worker_set: WorkerSet) -> None:
        """Let the entry be that of another worker set, which needs the same workers."""
        entry.worker_set = worker_set

    @staticmethod
    def retire(entry: WorkerSetState) -> None:
        """Let the entry take no new request."""
        entry.draining = True

    def serve(self, entry: WorkerSetState) -> None:
        """Let the entry serve all its rows from now on."""
        self._serving |= {row.slug: entry for row in entry.worker_set.rows}

    def serve_new(self, entry: WorkerSetState) -> None:
        """Let the entry serve those of its rows that no other loaded set serves."""
        for row in entry.worker_set.rows:
            other = self._serving.get(row.slug)
            if other is None or not other.load.is_loaded:
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
        return any(other and other is not entry and other.load.is_loaded for other in others)

    def present(self) -> list[WorkerSetState]:
        """The entries that serve a row, each once."""
        return [entry for entry in dict.fromkeys(self._serving.values()) if not entry.draining]

    def forget_gone(self) -> None:
        """Drop retired entries that hold no memory and run no job."""
        for entry in list(self.entries.values()):
            if entry.draining and entry.memory.held is None and not entry.load.running_job:
                del self.entries[entry.key]


def is_ready(views: Sequence[WorkerSetView], torchserve_up: bool) -> bool:
    """True if requests can be served: residents are READY or FAILED, and not all sets have FAILED.

    Without TorchServe nothing can be loaded, but loaded workers still serve.
    """
    settled = all(view.state in (State.READY, State.FAILED) for view in views if view.is_resident)
    can_serve = any(view.state is not State.FAILED for view in views)
    return settled and can_serve and (torchserve_up or any(view.state is State.READY for view in views))
