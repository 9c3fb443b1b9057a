"""The rule that tells a hung worker from a busy one, case by case."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence

import psutil
import pytest

from conductor_admin.workers.liveness import (
    ABANDONED_LOOKS,
    BUSY_LOOKS,
    BUSY_LOOKS_AFTER_TIMEOUT,
    IDLE_LOOKS,
    LEAST_APART_S,
    STOPPED_LOOKS,
    Condition,
    Liveness,
    answered,
    finished,
    missed,
    timed_out,
)
from conductor_core.processes import Activity, activity

READY, LATE, HUNG = Condition.READY, Condition.UNRESPONSIVE, Condition.HUNG


def after(looks: str, start: Liveness | None = None) -> list[Condition]:
    """The condition after each look, five seconds apart.

    Without an answer: `T` stopped, `S` asleep, `t` under a debugger, `R` computing, `r` waiting for a
    processor, `D` for the disk, `?` not readable. Answered: `.` with nothing to do, `w` at work, `z`
    with work but asleep, `o` at work without a request. Besides: `!` a request timed out, `+` one did not.
    """
    seen, at, cpu = start or Liveness(), 0.0, 0.0
    conditions = []
    for look in looks:
        if look in "!+":
            seen = timed_out(seen) if look == "!" else finished(seen)
            continue
        at, cpu = at + 5, cpu + (4.5 if look in "Rwo" else 0.01)
        states = {look.upper() if look in "r" else look, "S"} if look in "RrDt" else {"S"}
        doing = None if look == "?" else Activity(at, frozenset({"T"} if look == "T" else states), cpu)
        if look in ".wzo":
            running, in_flight = int(look != "."), int(look in "wz")
            seen = answered(seen, doing, running=running, in_flight=in_flight)
        else:
            seen = missed(seen, doing)
        conditions.append(seen.condition)
    return conditions


@pytest.mark.parametrize(
    ("looks", "last"),
    [
        ("....", READY),
        (".T", LATE),
        (".TT", LATE),
        (".TTT", HUNG),
        (".TT.", READY),
        (".S", READY),
        (".SSSSS", LATE),
        (".SSSSSS", HUNG),
        (".tttttt", HUNG),
        (".SSSSS.S", READY),
        (".SSSRSSS", LATE),
        (".RR", LATE),
        ("." + "R" * (BUSY_LOOKS - 1), LATE),
        ("." + "R" * BUSY_LOOKS, HUNG),
        ("." + "r" * (BUSY_LOOKS - 1), LATE),
        ("." + "D" * (BUSY_LOOKS - 1), LATE),
        ("." + "?" * (BUSY_LOOKS - 1), LATE),
        ("." + "?" * BUSY_LOOKS, HUNG),
        ("." + "RRRR." * 10, READY),
        (".!T", HUNG),
        (".!S", READY),
        (".!SS", HUNG),
        (".!" + "R" * (BUSY_LOOKS_AFTER_TIMEOUT - 1), LATE),
        (".!" + "R" * BUSY_LOOKS_AFTER_TIMEOUT, HUNG),
        ("w!wwwwwwwwww", READY),
        ("w!" + "z" * (IDLE_LOOKS - 1), READY),
        ("w!" + "z" * IDLE_LOOKS, HUNG),
        ("w" + "z" * 20, READY),
        ("w!zzz+zzzzzz", READY),
        ("w!.zzzzzz", READY),
        ("w" + "o" * (ABANDONED_LOOKS - 1), READY),
        ("w" + "o" * ABANDONED_LOOKS, HUNG),
        ("w" + "ooooow" * 5, READY),
    ],
)
def test_what_the_looks_at_a_worker_mean(looks: str, last: Condition) -> None:
    assert after(looks)[-1] is last


@pytest.mark.parametrize(
    ("look", "count"), [("T", STOPPED_LOOKS), ("S", IDLE_LOOKS), ("R", BUSY_LOOKS), ("D", BUSY_LOOKS)]
)
def test_a_worker_is_hung_at_that_very_look_and_was_told_of_before(look: str, count: int) -> None:
    conditions: Sequence[Condition] = after("." + look * count)[1:]
    assert conditions.index(HUNG) == count - 1
    assert LATE in conditions


def test_a_flood_of_looks_hastens_nothing() -> None:
    seen = Liveness()
    for look in range(10 * BUSY_LOOKS):
        seen = missed(timed_out(seen), Activity(look / 10, frozenset("R"), look / 10))
    assert seen.condition is LATE
    assert seen.missed == BUSY_LOOKS / LEAST_APART_S


def test_the_kernel_says_what_a_process_does() -> None:
    process = subprocess.Popen(["sleep", "600"])
    try:
        before = activity(process.pid)
        assert before is not None
        assert before.cpu_s < 1
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        stopped = activity(process.pid)
        assert stopped is not None
        assert stopped.is_stopped
        assert stopped.is_idle_since(before)
    finally:
        process.kill()
        process.wait()
    assert activity(process.pid) is None


def test_every_thread_and_all_processor_time_of_a_process_count() -> None:
    mine = activity(os.getpid())
    assert mine is not None
    assert "R" in mine.states
    assert mine.cpu_s == pytest.approx(sum(psutil.Process().cpu_times()[:2]), abs=1.0)
    assert not mine.is_stopped
