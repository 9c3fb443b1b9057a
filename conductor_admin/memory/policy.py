"""Memory policy: one pure function from demands, holdings and free memory to decisions.

All rules are here. A demand is admitted if it fits. Else it evicts the sets that free enough memory at the
least cost, reload seconds times recent use; a set that outgrew its admission costs nothing, a `yield` set is
evicted only if nothing else suffices, a resident set never. Loading sets are not evicted. Busy sets are left
alone for GROUP_S seconds, so that requests for one set are answered together; then they take no new request
and are unloaded after their last one. A demand that can never fit beside the resident sets is refused. Older
demands come first; a younger one may take memory that an older one does not need.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from conductor_core.catalogue import StayLoaded

GROUP_S = 10.0
"""Seconds that a demand waits for a busy set to become idle by itself, before that set is drained."""

EXACT = 12
"""Number of candidates up to which the cheapest subset is searched exactly."""

DeviceBytes = Mapping[str, int]
"""Memory by device (`cpu`, `cuda:0`); a missing device counts as 0."""


class Hold(Enum):
    """Activity of a set that holds memory."""

    LOADING = "loading"
    IDLE = "idle"
    BUSY = "busy"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Holding:
    """A set that holds memory; `recent_use` counts requests, recent ones more."""

    name: str
    memory: DeviceBytes
    hold: Hold
    stay: StayLoaded = StayLoaded.FALSE
    reload_s: float = 1.0
    recent_use: float = 0.0
    outgrown: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """A set that needs `memory` for its load, and the seconds for which it has waited.

    Without `may_evict` it waits until memory becomes free by itself.
    """

    name: str
    memory: DeviceBytes
    waited_s: float = 0.0
    may_evict: bool = True


@dataclass(frozen=True, slots=True)
class Admit:
    """Decision to load the set now."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Decision to wait until other sets end."""


@dataclass(frozen=True, slots=True)
class Evict:
    """Decision to unload these sets, busy ones after their requests, and then to decide again."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refusal of a set that can never fit; the bytes are those of the first device that is too small."""

    device: str
    needed: int
    free: int
    evictable: int


Decision = Admit | Wait | Evict | Refuse

_Cost = tuple[int, float, int]
"""Number of yield sets, then seconds, then freed bytes: of two equal sets the smaller is evicted."""
_NOTHING: _Cost = (0, 0.0, 0)
"""Cost of no eviction."""


def schedule(
    demands: Sequence[Demand], holdings: Sequence[Holding], room: DeviceBytes, budget: DeviceBytes
) -> dict[str, Decision]:
    """Decide on each of `demands`, oldest first; `room` is the free bytes by device."""
    decisions: dict[str, Decision] = {}
    left = list(holdings)
    coming = total(h.memory for h in holdings if h.hold is Hold.LEAVING)
    for demand in demands:
        decision = decide(demand, left, room, coming, budget)
        decisions[demand.name] = decision
        if isinstance(decision, Admit):
            room = positive_difference(room, demand.memory)
        elif not isinstance(decision, Refuse):
            freed = [h for h in left if isinstance(decision, Evict) and h.name in decision.names]
            pool = total([coming, *(h.memory for h in left if _displaceable(h))])
            coming = positive_difference(
                total([coming, *(h.memory for h in freed)]), positive_difference(demand.memory, room)
            )
            # An older demand keeps the free memory that evictions cannot provide.
            room = positive_difference(room, positive_difference(demand.memory, pool))
            left = [h for h in left if h not in freed]
    return decisions


def decide(
    demand: Demand, holdings: Iterable[Holding], room: DeviceBytes, coming: DeviceBytes, budget: DeviceBytes
) -> Decision:
    """Decide on one demand; `coming` is memory that sets being unloaded will release."""
    others = [h for h in holdings if h.name != demand.name]
    if refusal := refuse(demand, others, room, budget):
        return refusal
    short = positive_difference(demand.memory, room)
    if not short:
        return Admit()
    if not demand.may_evict:
        return Wait()
    short = positive_difference(short, coming)
    patient = demand.waited_s < GROUP_S
    able = [h for h in others if _displaceable(h) and not (patient and h.hold is Hold.BUSY)]
    victims = cheapest(able, short)
    return Evict(tuple(h.name for h in victims)) if victims else Wait()


def refuse(
    demand: Demand, others: Iterable[Holding], room: DeviceBytes, budget: DeviceBytes
) -> Refuse | None:
    """The refusal of a demand that does not fit beside the resident sets, or None."""
    others = list(others)
    resident = total(h.memory for h in others if h.stay is StayLoaded.TRUE)
    never = positive_difference(demand.memory, positive_difference(budget, resident))
    if not never:
        return None
    device = min(never)
    evictable = total(h.memory for h in others if h.stay is not StayLoaded.TRUE).get(device, 0)
    return Refuse(device, demand.memory[device], max(0, room.get(device, 0)), evictable)


def overrun(holdings: Sequence[Holding], budget: DeviceBytes) -> tuple[str, ...]:
    """Idle sets to unload because held memory exceeds the budget; sets that have outgrown come first."""
    held = total(h.memory for h in holdings)
    coming = total(h.memory for h in holdings if h.hold is Hold.LEAVING)
    short = positive_difference(positive_difference(held, budget), coming)
    idle = [h for h in holdings if is_spare(h)]
    return tuple(h.name for h in cheapest(idle, short))


def cheapest(able: Sequence[Holding], short: DeviceBytes) -> list[Holding]:
    """Those of `able` that free `short` at the least cost; none if nothing is short or all are not enough."""
    useful = [h for h in able if any(h.memory.get(device, 0) > 0 for device in short)]
    if not short or positive_difference(short, total(h.memory for h in useful)):
        return []
    return _cheap_enough(useful, short) if len(useful) > EXACT else _cheapest_of_all(useful, short)


def _cheapest_of_all(useful: Sequence[Holding], short: DeviceBytes) -> list[Holding]:
    # Best first: subsets leave the heap in order of cost, so the first that frees enough is the cheapest.
    heap: list[tuple[_Cost, tuple[int, ...]]] = [(_NOTHING, ())]
    while True:
        cost, chosen = heapq.heappop(heap)
        if not positive_difference(short, total(useful[i].memory for i in chosen)):
            return [useful[i] for i in chosen]
        for i in range(chosen[-1] + 1 if chosen else 0, len(useful)):
            heapq.heappush(heap, (_dearer(cost, useful[i]), (*chosen, i)))


def _cheap_enough(useful: Sequence[Holding], short: DeviceBytes) -> list[Holding]:
    # Drop the most expensive sets that are not needed, instead of a search through all subsets.
    kept = list(useful)
    for holding in sorted(useful, key=lambda h: _dearer(_NOTHING, h), reverse=True):
        rest = [h for h in kept if h is not holding]
        if not positive_difference(short, total(h.memory for h in rest)):
            kept = rest
    return kept


def _dearer(cost: _Cost, holding: Holding) -> _Cost:
    yields, seconds, freed = cost
    price = 0.0 if holding.outgrown else holding.reload_s * (1.0 + holding.recent_use)
    is_yield = holding.stay is StayLoaded.YIELD
    return yields + is_yield, seconds + price, freed + sum(holding.memory.values())


def is_spare(holding: Holding) -> bool:
    """True if the set may be unloaded at once to free memory."""
    return holding.hold is Hold.IDLE and _displaceable(holding)


def _displaceable(holding: Holding) -> bool:
    return holding.hold in (Hold.IDLE, Hold.BUSY) and holding.stay is not StayLoaded.TRUE


def total(amounts: Iterable[DeviceBytes]) -> dict[str, int]:
    """The sum, device by device."""
    summed: dict[str, int] = {}
    for amount in amounts:
        for device, size in amount.items():
            summed[device] = summed.get(device, 0) + size
    return summed


def positive_difference(wanted: DeviceBytes, had: DeviceBytes) -> dict[str, int]:
    """Positive difference `wanted` - `had` by device; devices without one are left out."""
    over = {device: size - had.get(device, 0) for device, size in wanted.items()}
    return {device: size for device, size in over.items() if size > 0}
