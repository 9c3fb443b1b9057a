"""Failures, use and remaining load time of a worker set, as functions of the time that they are given."""

from __future__ import annotations

import math
import time
from itertools import pairwise

import pytest

from conductor_admin.lifecycle import states
from conductor_admin.lifecycle.set_state import WorkerSetState
from conductor_admin.lifecycle.states import Failure, State
from conductor_admin.lifecycle.use import UseState
from conductor_admin.memory.usage import Idleness, Use
from conductor_admin.workers.worker import Phase
from conductor_core.catalogue import Catalogue


def test_a_failed_load_is_told_with_its_message_and_counted() -> None:
    first = states.failed("broken", None, 100.0)
    assert first == Failure("broken", 1, 110.0, "model_load_failed", refused=False)
    assert states.failed("worse", first, 200.0) == Failure("worse", 2, 220.0, "model_load_failed")


def test_cool_downs_double_from_ten_seconds_to_five_minutes() -> None:
    failure, cooldowns = None, []
    for _ in range(8):
        failure = states.failed("cause", failure, now=100.0)
        cooldowns.append(failure.until - 100.0)
    assert cooldowns == [10, 20, 40, 80, 160, 300, 300, 300]


def test_any_number_of_failures_has_a_cool_down() -> None:
    assert states.failed("x", Failure("x", 10**6, 0.0), 100.0).until == 400.0


@pytest.mark.parametrize(
    "message",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
        "MemoryError",
        "MemoryError: std::bad_alloc",
        "std::bad_alloc",
        "[Errno 12] Cannot allocate memory",
        "ggml: failed to allocate buffer",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory",
        "ImportError: libopenvino_genai.so: failed to map segment from shared object",
        "RuntimeError: can't start new thread",
    ],
)
def test_a_load_that_ran_out_of_memory_says_so(message: str) -> None:
    assert states.is_out_of_memory(message)
    assert states.failed(message, None, 0.0).code == "insufficient_memory"


def test_other_messages_do_not_mean_memory() -> None:
    assert not states.is_out_of_memory("the file models/memory.gguf is broken")


def test_a_refused_load_may_soon_be_tried_again() -> None:
    assert states.refused("too large", 100.0) == Failure(
        "too large", 1, 105.0, code="insufficient_memory", refused=True
    )


def test_a_load_is_tried_again_from_the_end_of_its_cool_down_on() -> None:
    failure = Failure("x", 1, 10.0)
    assert [states.has_cooled(failure, now) for now in (9.9, 10.0, 10.1)] == [False, True, True]
    assert states.has_cooled(None, 0.0)


def test_requests_that_wait_are_counted_one_by_one() -> None:
    use = UseState()
    for _ in range(3):
        use.begin_wait()
    assert use.waiting == 3
    use.end_wait()
    assert use.waiting == 2


def test_recent_requests_count_more() -> None:
    use = UseState()
    use.count_request(0.0)
    use.count_request(600.0)
    assert use.recent == Use(1.5, 600.0)


def test_an_unload_waits_for_the_last_answer_unless_it_need_not() -> None:
    use = UseState()
    use.drained.set()
    use.begin_answer("a")
    assert not use.drained.is_set()
    use.end_answer(is_last=False)
    assert not use.drained.is_set()
    use.end_answer(is_last=True)
    assert use.drained.is_set()
    use.begin_answer("b")
    use.end_drain()
    assert use.drained.is_set()
    assert use.claims == {"a", "b"}


def test_the_end_of_an_answer_is_noted_in_unix_time(monkeypatch: pytest.MonkeyPatch) -> None:
    use = UseState()
    assert use.last_used is None
    monkeypatch.setattr(time, "time", lambda: 1234.5)
    use.end_answer(is_last=False)
    assert use.last_used == 1234.5


def test_idle_time_begins_now_with_the_length_of_the_set_or_of_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    use, idleness = UseState(), Idleness(60.0, stays=False)
    assert use.expires == math.inf
    use.begin_idle_time(idleness)
    assert use.expires == 160.0
    use.begin_idle_time(idleness, 5.0)
    assert use.expires == 105.0
    use.begin_idle_time(idleness, 5.0, may_shorten=False)
    assert use.expires == 160.0


def test_claims_of_rows_are_added_dropped_and_handed_over() -> None:
    use, other = UseState(claims={"a"}), UseState(claims={"z"})
    use.claim(["b", "c", "d"])
    use.drop_claim("a")
    use.drop_claim("never claimed")
    assert use.claims == {"b", "c", "d"}
    use.hand_over_claims(["b", "e"], other)
    assert (use.claims, other.claims) == ({"c", "d"}, {"b", "z"})
    use.keep_claims(["c", "e"])
    assert use.claims == {"c"}
    use.drop_claims()
    assert use.claims == set()


def loading(
    catalogue: Catalogue, phase: Phase | None = "start", state: State = State.LOADING
) -> WorkerSetState:
    """A set whose load got its memory at 100 s; the load before took 8 s."""
    one = WorkerSetState(catalogue.sets[0], "k")
    one.load.state, one.load.phase, one.load.started_at, one.load.seconds = state, phase, 100.0, 8.0
    one.memory.held = {"cpu": 1}
    return one


@pytest.mark.parametrize("phase", ["start", "restart"])
def test_a_load_tells_the_seconds_left_of_the_time_that_the_last_one_took(
    catalogue: Catalogue, phase: Phase
) -> None:
    one = loading(catalogue, phase)
    assert [one.eta_s(now) for now in (100.0, 103.0, 107.5, 108.0, 109.0)] == [8.0, 5.0, 0.5, None, None]


def test_no_seconds_are_told_of_a_load_that_was_never_timed_or_has_not_begun(catalogue: Catalogue) -> None:
    untimed, unheld = loading(catalogue), loading(catalogue)
    untimed.load.seconds = None
    unheld.memory.held = None
    others = [loading(catalogue, "convert"), loading(catalogue, None), loading(catalogue, state=State.READY)]
    assert [one.eta_s(101.0) for one in (untimed, unheld, *others)] == [None] * 5


def test_a_cool_down_never_shrinks_with_another_failure() -> None:
    failure, ends = None, []
    for _ in range(12):
        failure = states.failed("x", failure, 0.0)
        ends.append(failure.until)
    assert all(before <= after for before, after in pairwise(ends))
