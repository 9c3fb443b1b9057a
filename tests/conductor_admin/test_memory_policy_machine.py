"""The memory policy under any order of events: hypothesis drives the clock, loads and requests of a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from conductor_admin.memory.policy import (
    GROUP_S,
    Admit,
    Demand,
    Evict,
    Hold,
    Holding,
    Refuse,
    positive_difference,
    schedule,
    total,
)
from conductor_core.catalogue import StayLoaded

BUDGET = {"cpu": 10}
SIZES = {"resident": 3, "yield": 4, "a": 4, "b": 5, "c": 2, "huge": 8}
STAYS = {"resident": StayLoaded.TRUE, "yield": StayLoaded.YIELD}
names = st.sampled_from(sorted(SIZES))
picks = st.integers(0, len(SIZES) - 1)
"""Chooses one of the sets that an event applies to: with most names it would do nothing."""


@dataclass
class Set:
    """One set of the world; `waiting` are arrival times of requests, one of which `may_evict`."""

    hold: Hold | None = None
    in_flight: int = 0
    waiting: list[float] = field(default_factory=list)
    may_evict: bool = False


class World(RuleBasedStateMachine):
    """Requests come and end, loads and unloads finish, time passes; the policy decides after each event."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.sets = {name: Set() for name in SIZES}
        self.came = self.answered = self.refused = 0

    @rule(name=names, may_evict=st.sampled_from([True, True, False]))
    def request(self, name: str, may_evict: bool) -> None:
        """Like `leases.load_for`: a request with less permission joins a load of others or is refused."""
        self.came += 1
        one = self.sets[name]
        if not (may_evict or one.hold or one.waiting or self.has_room_for(name)):
            self.refused += 1
            return
        one.may_evict = may_evict or (one.may_evict and bool(one.waiting))
        one.waiting.append(self.now)
        self.settle()

    @rule(name=names)
    def waiters_leave(self, name: str) -> None:
        self.refused += len(self.sets[name].waiting)
        self.sets[name].waiting = []
        self.settle()

    @precondition(lambda self: self.busy())
    @rule(pick=picks)
    def request_ends(self, pick: int) -> None:
        self.picked(self.busy(), pick).in_flight -= 1
        self.settle()

    @precondition(lambda self: self.which(Hold.LOADING))
    @rule(pick=picks)
    def load_ends(self, pick: int) -> None:
        self.picked(self.which(Hold.LOADING), pick).hold = Hold.IDLE
        self.settle()

    @precondition(lambda self: self.which(Hold.LOADING))
    @rule(pick=picks)
    def load_fails(self, pick: int) -> None:
        one = self.picked(self.which(Hold.LOADING), pick)
        self.refused += len(one.waiting)
        one.hold, one.waiting = None, []
        self.settle()

    @precondition(lambda self: self.left())
    @rule(pick=picks)
    def unload_ends(self, pick: int) -> None:
        self.picked(self.left(), pick).hold = None
        self.settle()

    @rule(seconds=st.floats(0.1, GROUP_S))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    @precondition(lambda self: any(one.waiting for one in self.sets.values()))
    @rule()
    def everybody_is_answered_within_the_bound(self) -> None:
        """Without new requests, each waiting one is served after those before it, one group each."""
        waiting = sum(bool(one.waiting) for one in self.sets.values())
        for _ in range(3 * waiting + 3):
            self.now += GROUP_S
            for one in self.sets.values():
                one.in_flight = 0
                if one.hold is Hold.LEAVING:
                    one.hold = None
                elif one.hold is Hold.LOADING:
                    one.hold = Hold.IDLE
                self.settle()
        left = {name: one for name, one in self.sets.items() if one.waiting}
        assert not any(one.may_evict or self.room_lacks(name) == {} for name, one in left.items())
        assert self.came == self.answered + self.refused + sum(len(one.waiting) for one in left.values())

    def which(self, hold: Hold) -> list[Set]:
        return [one for one in self.sets.values() if one.hold is hold]

    def busy(self) -> list[Set]:
        return [one for one in self.sets.values() if one.in_flight]

    def left(self) -> list[Set]:
        """Sets being unloaded whose last request has ended."""
        return [one for one in self.which(Hold.LEAVING) if not one.in_flight]

    @staticmethod
    def picked(sets: list[Set], pick: int) -> Set:
        return sets[pick % len(sets)]

    def has_room_for(self, name: str) -> bool:
        asking = any(one.waiting and not one.hold for one in self.sets.values())
        return not asking and not self.room_lacks(name)

    def room_lacks(self, name: str) -> dict[str, int]:
        return positive_difference(
            {"cpu": SIZES[name]}, positive_difference(BUDGET, total(h.memory for h in self.holdings()))
        )

    def holdings(self) -> list[Holding]:
        return [
            Holding(name, {"cpu": SIZES[name]}, self.shown(one), STAYS.get(name, StayLoaded.FALSE))
            for name, one in self.sets.items()
            if one.hold
        ]

    @staticmethod
    def shown(one: Set) -> Hold:
        assert one.hold is not None
        return Hold.BUSY if one.hold is Hold.IDLE and (one.in_flight or one.waiting) else one.hold

    def settle(self) -> None:
        """Serve READY sets, then apply the policy until it has nothing more to do."""
        for one in self.sets.values():
            if one.hold is Hold.IDLE:
                self.answered += len(one.waiting)
                one.in_flight, one.waiting = one.in_flight + len(one.waiting), []
        while self.decide():
            pass

    def decide(self) -> bool:
        asking = [(one.waiting[0], name) for name, one in self.sets.items() if one.waiting and not one.hold]
        demands = [
            Demand(n, {"cpu": SIZES[n]}, self.now - since, self.sets[n].may_evict)
            for since, n in sorted(asking)
        ]
        room = positive_difference(BUDGET, total(h.memory for h in self.holdings()))
        acted = False
        for name, decision in schedule(demands, self.holdings(), room, BUDGET).items():
            one = self.sets[name]
            if isinstance(decision, Admit):
                assert one.hold is None, "a second load of one set"
                one.hold, acted = Hold.LOADING, True
            elif isinstance(decision, Refuse):
                self.refused += len(one.waiting)
                one.waiting = []
            elif isinstance(decision, Evict):
                self.evict(decision, self.now - one.waiting[0], may_evict=one.may_evict)
                acted = True
        return acted

    def evict(self, decision: Evict, waited_s: float, *, may_evict: bool) -> None:
        for name in decision.names:
            victim = self.sets[name]
            assert may_evict, "an eviction for somebody who may cause none"
            assert victim.hold is Hold.IDLE, "only a READY set may be evicted"
            assert STAYS.get(name) is not StayLoaded.TRUE
            assert not victim.in_flight or waited_s >= GROUP_S, "a busy set within the bound"
            victim.hold = Hold.LEAVING

    @invariant()
    def the_ledger_is_never_negative(self) -> None:
        assert sum(h.memory["cpu"] for h in self.holdings()) <= BUDGET["cpu"]

    @invariant()
    def nobody_is_forgotten(self) -> None:
        assert self.came == self.answered + self.refused + sum(len(s.waiting) for s in self.sets.values())


def test_any_order_of_events_keeps_the_promises_of_the_policy() -> None:
    run_state_machine_as_test(
        World, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )
