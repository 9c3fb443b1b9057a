"""The policy under any order of events: a small world whose clock, loads and requests hypothesis drives."""

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

from conductor_admin.policy import (
    GROUP_S,
    Admit,
    Demand,
    Evict,
    Hold,
    Holding,
    Refuse,
    lack,
    schedule,
    total,
)
from conductor_core.catalogue import StayLoaded

BUDGET = {"cpu": 10}
SIZES = {"resident": 3, "yield": 4, "a": 4, "b": 5, "c": 2, "huge": 8}
STAYS = {"resident": StayLoaded.TRUE, "yield": StayLoaded.YIELD}
names = st.sampled_from(sorted(SIZES))


@dataclass
class Set:
    """One set of the world; `waiting` are the times at which its waiters came."""

    hold: Hold | None = None
    in_flight: int = 0
    waiting: list[float] = field(default_factory=list)


class World(RuleBasedStateMachine):
    """Requests come and end, loads and unloads finish, time passes; the policy decides after each event."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.sets = {name: Set() for name in SIZES}
        self.came = self.answered = self.refused = 0

    @rule(name=names)
    def request(self, name: str) -> None:
        self.came += 1
        self.sets[name].waiting.append(self.now)
        self.settle()

    @rule(name=names)
    def request_ends(self, name: str) -> None:
        if self.sets[name].in_flight:
            self.sets[name].in_flight -= 1
        self.settle()

    @rule(name=names)
    def load_ends(self, name: str) -> None:
        if self.sets[name].hold is Hold.LOADING:
            self.sets[name].hold = Hold.IDLE
        self.settle()

    @rule(name=names)
    def load_fails(self, name: str) -> None:
        one = self.sets[name]
        if one.hold is Hold.LOADING:
            self.refused += len(one.waiting)
            one.hold, one.waiting = None, []
        self.settle()

    @rule(name=names)
    def unload_ends(self, name: str) -> None:
        one = self.sets[name]
        if one.hold is Hold.LEAVING and not one.in_flight:
            one.hold = None
        self.settle()

    @rule(seconds=st.floats(0.1, GROUP_S))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    @precondition(lambda self: any(one.waiting for one in self.sets.values()))
    @rule()
    def everybody_is_answered_within_the_bound(self) -> None:
        """From here on nothing new comes: a waiter's turn comes after those before it, one group each."""
        waiting = sum(bool(one.waiting) for one in self.sets.values())
        for _ in range(3 * waiting + 3):
            self.now += GROUP_S
            for name, one in self.sets.items():
                one.in_flight = 0
                self.unload_ends(name)
                self.load_ends(name)
        assert not any(one.waiting for one in self.sets.values())
        assert self.came == self.answered + self.refused

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
        """Grant what is READY, then let the policy act until it has nothing more to do."""
        for one in self.sets.values():
            if one.hold is Hold.IDLE:
                self.answered += len(one.waiting)
                one.in_flight, one.waiting = one.in_flight + len(one.waiting), []
        while self.decide():
            pass

    def decide(self) -> bool:
        asking = [(one.waiting[0], name) for name, one in self.sets.items() if one.waiting and not one.hold]
        demands = [Demand(n, {"cpu": SIZES[n]}, self.now - since) for since, n in sorted(asking)]
        room = lack(BUDGET, total(h.memory for h in self.holdings()))
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
                self.evict(decision, self.now - one.waiting[0])
                acted = True
        return acted

    def evict(self, decision: Evict, waited_s: float) -> None:
        for name in decision.names:
            victim = self.sets[name]
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
