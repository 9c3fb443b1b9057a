"""Memory admission: tracks the sets that wait for memory and that hold it, and carries out the policy.

The rules are in `conductor_admin.memory.policy`. Everything runs on one event loop. `settle` is called after
each event that may change a decision: it admits and refuses waiting sets, and unloads sets through `evict`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog

from conductor_admin.lifecycle.load_record import EvictionReason, LifecycleListener, NullListener
from conductor_admin.lifecycle.measuring import MemoryMeasurements
from conductor_admin.lifecycle.states import State
from conductor_admin.lifecycle.worker_sets import WorkerSetState
from conductor_admin.memory import accounting, policy
from conductor_admin.memory.accounting import MemoryFigures
from conductor_admin.memory.machine import MemoryOf
from conductor_admin.memory.policy import Admit, Demand, DeviceBytes, Evict, Hold, Holding, Refuse
from conductor_admin.memory.usage import Swaps
from conductor_admin.workers.loader import LoadError
from conductor_core.catalogue import StayLoaded, WorkerSet
from conductor_core.quantities import format_bytes
from conductor_core.weights import worker_key

log = structlog.get_logger()

_UNKNOWN_LOAD_S = 10.0


class InsufficientMemory(LoadError):
    """The set can never fit into the memory; the message has needed, free and evictable bytes."""


class MemoryAdmission:
    """The memory of `entries` under `budget`; LoadJobs sets `evict`, which begins to unload a READY set."""

    def __init__(
        self,
        entries: Mapping[str, WorkerSetState],
        budget: DeviceBytes,
        machine: MemoryOf,
        measurements: MemoryMeasurements,
        listener: LifecycleListener | None = None,
    ) -> None:
        self.budget = budget
        self.swaps = Swaps(budget)
        self.measurements = measurements
        self._entries = entries
        self._machine = machine
        self.listener = listener or NullListener()
        self.evict: Callable[[WorkerSetState], None] = _nobody_evicts
        self._asking: dict[str, asyncio.Future[None]] = {}
        self._swapping: set[str] = set()

    @property
    def charged(self) -> dict[str, int]:
        """Bytes by device that are charged to sets: held by them or admitted."""
        return policy.total(holding.memory for holding in self._holdings())

    def figures(self, worker_set: WorkerSet) -> MemoryFigures:
        """Memory figures of a set; from the archive of an entry with the same workers, if there is one."""
        for entry in self._entries.values():
            if entry.archive and worker_key(entry.worker_set) == worker_key(worker_set):
                return self.measurements.figures(entry)
        return self.measurements.needed(worker_set)

    def asked(self, entry: WorkerSetState) -> None:
        """Count a request for the set, loaded or not."""
        entry.use = entry.use.another(time.monotonic())
        self.swaps.asked(entry.key, self.measurements.need(entry))

    def check(self, entry: WorkerSetState) -> None:
        """Raise InsufficientMemory for a set that can never fit, before anything is downloaded for it."""
        if entry.held is None:
            refusal = policy.refuse(self._demand(entry), self._holdings(), self._room(), self.budget)
            if refusal:
                raise _no_room(refusal)

    async def admit(self, entry: WorkerSetState) -> None:
        """Wait until the set may take its memory, and charge it. InsufficientMemory if it can never fit."""
        if entry.held is not None:
            return
        entry.enter("wait")
        entry.demanded_at = time.monotonic()
        answer = self._asking[entry.key] = asyncio.get_running_loop().create_future()
        try:
            self.settle()
            await answer
        finally:
            del self._asking[entry.key]
            self._swapping.discard(entry.key)
            entry.position = entry.queue = None
        entry.enter("start")

    def gave_back(self, entry: WorkerSetState) -> None:
        """Release the memory of a set whose workers are gone."""
        entry.held, entry.measured = None, {}
        self.settle()

    def settle(self) -> None:
        """Carry out every decision of the policy that is due; there is none while no set waits."""
        while self._asking and self._act():
            pass

    def relieve(self) -> None:
        """Unload sets if the loaded ones have grown beyond the budget."""
        for name in policy.overrun(self._holdings(), self.budget):
            log.warning("memory_overrun", set=name, budget=self.budget, held=self.charged)
            self._evict(self._entries[name], "overrun")

    def has_room_for(self, entry: WorkerSetState) -> bool:
        """True if the set could be loaded without unloading or overtaking another set."""
        return not self._asking and not policy.positive_difference(
            self.measurements.figures(entry).admission, self._room()
        )

    async def clear_for(self, entry: WorkerSetState) -> None:
        """Unload every idle set that shares a device with this one, and wait until they are gone."""
        wanted = self.measurements.figures(entry).admission.keys()
        for one in self._holdings():
            if one.name != entry.key and policy.is_spare(one) and wanted & one.memory.keys():
                self._evict(self._entries[one.name], "out_of_memory", entry)
        leaving = [e.job for e in self._entries.values() if e.state is State.UNLOADING and e.job]
        if leaving:
            await asyncio.wait(leaving)

    def _act(self) -> bool:
        demands = [self._demand(self._entries[name]) for name in self._queue()]
        decisions = policy.schedule(demands, self._holdings(), self._room(), self.budget)
        acted = False
        for name, decision in decisions.items():
            entry, answer = self._entries[name], self._asking[name]
            if isinstance(decision, Admit):
                self._admitted(entry)
                answer.set_result(None)
                acted = True
            elif isinstance(decision, Refuse):
                answer.set_exception(_no_room(decision))
                acted = True
            elif isinstance(decision, Evict):
                self._evict_for(name, decision.names)
                acted = True
        return acted

    def _queue(self) -> list[str]:
        """Waiting sets, the oldest first; updates the position and queue length of each."""
        waiting = [name for name, answer in self._asking.items() if not answer.done()]
        waiting.sort(key=lambda name: self._entries[name].demanded_at)
        for position, name in enumerate(waiting, 1):
            entry = self._entries[name]
            entry.position, entry.queue = position, len(waiting)
            if entry.load_record:
                entry.load_record.queued(position, len(waiting))
        return waiting

    def _admitted(self, entry: WorkerSetState) -> None:
        entry.held = self.measurements.figures(entry).admission
        self.swaps.made += entry.key in self._swapping
        log.info("set_admitted", set=entry.name, memory=entry.held, room=self._room())

    def _evict_for(self, name: str, victims: tuple[str, ...]) -> None:
        self._swapping.add(name)
        for victim in victims:
            log.info("set_evicted", set=victim, for_set=name)
            self._evict(self._entries[victim], "memory", self._entries[name])

    def _evict(self, entry: WorkerSetState, why: EvictionReason, sake: WorkerSetState | None = None) -> None:
        if sake and sake.load_record:
            sake.load_record.took_the_place_of(entry.name, why)
        self.listener.evicted(entry.name, why)
        self.evict(entry)

    def _demand(self, entry: WorkerSetState) -> Demand:
        waited_s = time.monotonic() - entry.demanded_at
        return Demand(entry.key, self.measurements.figures(entry).admission, waited_s, entry.may_evict)

    def _holdings(self) -> list[Holding]:
        now = time.monotonic()
        return [self._holding(entry, now) for entry in self._entries.values() if entry.held is not None]

    def _holding(self, entry: WorkerSetState, now: float) -> Holding:
        return Holding(
            name=entry.key,
            memory=accounting.charge(entry.held or {}, entry.measured),
            hold=_hold(entry),
            stay=StayLoaded.FALSE if entry.draining else entry.worker_set.stay_loaded,
            reload_s=entry.load_s or _UNKNOWN_LOAD_S,
            recent_use=entry.use.recent(now),
            outgrown=accounting.has_outgrown(entry.held or {}, entry.measured),
        )

    def _room(self) -> dict[str, int]:
        loading = [e for e in self._entries.values() if e.held and e.state is State.LOADING]
        awaited = policy.total(accounting.pending(e.held or {}, e.measured) for e in loading)
        return accounting.room(self.budget, self.charged, self._machine.free(), awaited)


def _nobody_evicts(entry: WorkerSetState) -> None:
    raise RuntimeError(f"no function was set that unloads {entry.name}")


def _hold(entry: WorkerSetState) -> Hold:
    if entry.state is State.READY and not entry.waiting:
        return Hold.BUSY if entry.in_flight else Hold.IDLE
    # READY just now: its waiting requests have not run yet, and they come before those of other sets.
    return Hold.LEAVING if entry.state is State.UNLOADING else Hold.LOADING


def _no_room(refusal: Refuse) -> InsufficientMemory:
    figures = {
        "needed": refusal.needed,
        "free": refusal.free,
        "evictable": refusal.evictable,
    }
    told = ", ".join(f"{word} {format_bytes(size)}" for word, size in figures.items())
    return InsufficientMemory(f"does not fit into the memory budget of {refusal.device}: {told}")
