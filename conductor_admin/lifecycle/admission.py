"""Memory admission: tracks the sets that wait for memory and that hold it, and asks the policy who is next.

The rules are in `conductor_admin.memory.policy`. Everything runs on one event loop. `settle` charges the sets
that may load, and returns the sets to unload; `conductor_admin.lifecycle.loads` unloads them. Only this
module writes a MemoryState.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from conductor_admin.lifecycle.load_record import EvictionReason
from conductor_admin.lifecycle.measuring import MemoryMeasurements
from conductor_admin.lifecycle.set_state import WorkerSetState
from conductor_admin.lifecycle.states import State
from conductor_admin.memory import accounting, policy
from conductor_admin.memory.accounting import MemoryFigures
from conductor_admin.memory.machine import MemoryOf
from conductor_admin.memory.policy import Admit, Demand, DeviceBytes, Evict, Hold, Holding, Refuse
from conductor_admin.memory.usage import Swaps
from conductor_admin.workers.loader import LoadError
from conductor_admin.workers.worker import Worker
from conductor_core.catalogue import StayLoaded, WorkerSet
from conductor_core.quantities import format_bytes
from conductor_core.weights import worker_key

log = structlog.get_logger()

_UNKNOWN_LOAD_S = 10.0


class InsufficientMemory(LoadError):
    """The set can never fit into the memory; the message has needed, free and evictable bytes."""


@dataclass(frozen=True, slots=True)
class Eviction:
    """Decision to unload a set after its requests; `sake` is the set whose load needs the memory, if any."""

    entry: WorkerSetState
    why: EvictionReason
    sake: WorkerSetState | None = None


class MemoryAdmission:
    """The memory of `entries` under `budget`."""

    def __init__(
        self,
        entries: Mapping[str, WorkerSetState],
        budget: DeviceBytes,
        machine: MemoryOf,
        measurements: MemoryMeasurements,
    ) -> None:
        self.budget = budget
        self.swaps = Swaps(budget)
        self.measurements = measurements
        self._entries = entries
        self._machine = machine
        self._asking: dict[str, asyncio.Future[None]] = {}
        self._swapping: set[str] = set()

    @property
    def charged(self) -> dict[str, int]:
        """Bytes by device that are charged to sets: held by them or admitted."""
        return policy.total(holding.memory for holding in self._holdings())

    def figures(self, worker_set: WorkerSet) -> MemoryFigures:
        """Memory figures of a set; from the archive of an entry with the same workers, if there is one."""
        for entry in self._entries.values():
            if entry.load.archive and worker_key(entry.worker_set) == worker_key(worker_set):
                return self.measurements.figures(entry)
        return self.measurements.needed(worker_set)

    def count_request(self, entry: WorkerSetState) -> None:
        """Count a request for the set, loaded or not, in the number of swaps avoided."""
        self.swaps.asked(entry.key, self.measurements.need(entry))

    def check(self, entry: WorkerSetState) -> None:
        """Raise InsufficientMemory for a set that can never fit, before anything is downloaded for it."""
        if entry.memory.held is None:
            refusal = policy.refuse(self._demand(entry), self._holdings(), self._room(), self.budget)
            if refusal:
                raise _no_room(refusal)

    @contextmanager
    def queue(self, entry: WorkerSetState) -> Iterator[asyncio.Future[None]]:
        """Let the set wait for memory during the block; `settle` ends the future once it holds its memory.

        The future raises InsufficientMemory if the set can never fit.
        """
        entry.memory.demanded_at = time.monotonic()
        answer = self._asking[entry.key] = asyncio.get_running_loop().create_future()
        self._number_queue()
        try:
            yield answer
        finally:
            del self._asking[entry.key]
            self._swapping.discard(entry.key)
            entry.memory.position = entry.memory.queue = None

    def release(self, entry: WorkerSetState) -> None:
        """Release the memory of a set whose workers are gone."""
        entry.memory.held, entry.memory.measured = None, {}

    def settle(self) -> list[Eviction]:
        """Admit and refuse the waiting sets whose turn it is; return the sets to unload for the others.

        Once these begin to unload, another call may find more to do, until nothing is returned.
        """
        while self._asking:
            demands = [self._demand(self._entries[name]) for name in self._number_queue()]
            decisions = policy.schedule(demands, self._holdings(), self._room(), self.budget)
            evictions: list[Eviction] = []
            answered = False
            for name, decision in decisions.items():
                if isinstance(decision, Admit):
                    self._admit(name)
                    answered = True
                elif isinstance(decision, Refuse):
                    self._asking[name].set_exception(_no_room(decision))
                    answered = True
                elif isinstance(decision, Evict):
                    self._swapping.add(name)
                    evictions += self._evictions(decision.names, "memory", self._entries[name])
            if evictions or not answered:
                return evictions
        return []

    def overrun(self) -> list[Eviction]:
        """Sets to unload because the loaded ones have grown beyond the budget."""
        return self._evictions(policy.overrun(self._holdings(), self.budget), "overrun")

    def spare_for(self, entry: WorkerSetState) -> list[Eviction]:
        """Every idle set that shares a device with this one, whose load ran out of memory."""
        wanted = self.measurements.figures(entry).admission.keys()
        spare = [one for one in self._holdings() if one.name != entry.key and policy.is_spare(one)]
        names = [one.name for one in spare if wanted & one.memory.keys()]
        return self._evictions(names, "out_of_memory", entry)

    def leaving(self) -> list[asyncio.Task[None]]:
        """The jobs of sets that are being unloaded and give back their memory."""
        entries = self._entries.values()
        return [e.load.job for e in entries if e.load.state is State.UNLOADING and e.load.job]

    def has_room_for(self, entry: WorkerSetState) -> bool:
        """True if the set could be loaded without unloading or overtaking another set."""
        return not self._asking and not policy.positive_difference(
            self.measurements.figures(entry).admission, self._room()
        )

    def begin_sample(self, entry: WorkerSetState, now: float) -> None:
        """Note that the set is measured now because an answer has ended."""
        entry.memory.sampled_at = now

    async def sample(self, entry: WorkerSetState, *, in_use: bool = False) -> list[Worker]:
        """Ask the set's workers for their health, and measure the set; return the workers without answer.

        `in_use` means that an answer has just ended.
        """
        silent = await self.measurements.ask_workers(entry)
        self.measure(entry, in_use=in_use)
        return silent

    def measure(self, entry: WorkerSetState, *, in_use: bool = False) -> None:
        """Take over the workers' latest figures, if all are known."""
        if measured := self.measurements.measure(entry, in_use=in_use):
            entry.memory.measured = measured
            entry.memory.peak = accounting.higher(entry.memory.peak, measured)

    def measure_loaded(self, entry: WorkerSetState) -> None:
        """Measure a set that has just been loaded: its peak begins anew."""
        entry.memory.peak = {}
        self.measure(entry)

    def _number_queue(self) -> list[str]:
        """Waiting sets, the oldest first; updates the position and queue length of each."""
        waiting = [name for name, answer in self._asking.items() if not answer.done()]
        waiting.sort(key=lambda name: self._entries[name].memory.demanded_at)
        for position, name in enumerate(waiting, 1):
            memory = self._entries[name].memory
            memory.position, memory.queue = position, len(waiting)
        return waiting

    def _admit(self, name: str) -> None:
        entry = self._entries[name]
        entry.memory.held = self.measurements.figures(entry).admission
        self.swaps.made += name in self._swapping
        log.info("set_admitted", set=entry.name, memory=entry.memory.held, room=self._room())
        self._asking[name].set_result(None)

    def _evictions(
        self, names: Iterable[str], why: EvictionReason, sake: WorkerSetState | None = None
    ) -> list[Eviction]:
        return [Eviction(self._entries[name], why, sake) for name in names]

    def _demand(self, entry: WorkerSetState) -> Demand:
        waited_s = time.monotonic() - entry.memory.demanded_at
        return Demand(entry.key, self.measurements.figures(entry).admission, waited_s, entry.load.may_evict)

    def _holdings(self) -> list[Holding]:
        now = time.monotonic()
        return [
            Holding(
                name=entry.key,
                memory=accounting.charge(held, entry.memory.measured),
                hold=_hold(entry),
                stay=StayLoaded.FALSE if entry.draining else entry.worker_set.stay_loaded,
                reload_s=entry.load.seconds or _UNKNOWN_LOAD_S,
                recent_use=entry.use.recent.recent(now),
                outgrown=accounting.has_outgrown(held, entry.memory.measured),
            )
            for entry in self._entries.values()
            if (held := entry.memory.held) is not None
        ]

    def _room(self) -> dict[str, int]:
        awaited = policy.total(
            accounting.pending(entry.memory.held, entry.memory.measured)
            for entry in self._entries.values()
            if entry.memory.held and entry.load.state is State.LOADING
        )
        return accounting.room(self.budget, self.charged, self._machine.free(), awaited)


def _hold(entry: WorkerSetState) -> Hold:
    if entry.load.state is State.READY and not entry.use.waiting:
        return Hold.BUSY if entry.load.in_flight else Hold.IDLE
    # READY just now: its waiting requests have not run yet, and they come before those of other sets.
    return Hold.LEAVING if entry.load.state is State.UNLOADING else Hold.LOADING


def _no_room(refusal: Refuse) -> InsufficientMemory:
    figures = {
        "needed": refusal.needed,
        "free": refusal.free,
        "evictable": refusal.evictable,
    }
    told = ", ".join(f"{word} {format_bytes(size)}" for word, size in figures.items())
    return InsufficientMemory(f"does not fit into the memory budget of {refusal.device}: {told}")
