"""Tells a worker that hangs from one that is busy: what its looks have shown in, its condition out; pure.

A look is a health request, every five seconds and whenever a request's time has run out. The openvino runtime
steps on the worker's own event loop, so a worker that reads a long prompt gives no health for as long as one
step takes: seconds, and more on a slow machine. Silence alone therefore ends nobody soon. The rule:

- Stopped (every thread is stopped, by SIGSTOP): the third look without an answer ends it. No honest worker
  is stopped.
- Idle (no processor time, no thread that runs or waits for the disk): the sixth look without an answer. It
  waits for something that does not come.
- Busy: the twenty-fourth look without an answer, two minutes; no step takes that long.
- Once a request's promised time has run out on it, all of this comes sooner.
- A worker that answers is hung too: where a request's time has run out while its runtime had work and used
  no processor time for six looks; and where its runtime goes on for a minute with work that nobody wants.

A debugger's stop (state `t`) counts as idle. Looks are counted, not seconds: while the gateway itself stands,
nobody is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from conductor_core.processes import Activity

STOPPED_LOOKS, STOPPED_LOOKS_AFTER_TIMEOUT = 3, 1
IDLE_LOOKS, IDLE_LOOKS_AFTER_TIMEOUT = 6, 2
BUSY_LOOKS, BUSY_LOOKS_AFTER_TIMEOUT = 24, 12
ABANDONED_LOOKS = 12
LATE_LOOKS = 2
"""Looks without an answer from which on a worker is avoided and told of."""
LEAST_APART_S = 3.0
"""Looks without an answer that follow closer are one: a flood of requests that time out hastens nothing."""


class Condition(StrEnum):
    """A worker's condition as shown in `/models`; one that is HUNG is ended at once."""

    READY = "READY"
    UNRESPONSIVE = "UNRESPONSIVE"
    HUNG = "HUNG"


@dataclass(frozen=True, slots=True)
class Liveness:
    """The result of the looks at one worker; each count is of looks in a row, up to the latest.

    `timed_out` says that a request's promised time has run out since its runtime last had nothing to do.
    """

    missed: int = 0
    stopped: int = 0
    idle: int = 0
    abandoned: int = 0
    timed_out: bool = False
    activity: Activity | None = None

    @property
    def condition(self) -> Condition:
        """The verdict on the worker."""
        return (
            Condition.HUNG
            if _is_hung(self)
            else Condition.UNRESPONSIVE
            if _is_late(self)
            else Condition.READY
        )


def answered(before: Liveness, activity: Activity | None, *, running: int, in_flight: int) -> Liveness:
    """After a look that was answered; `running` is what the runtime works on, `in_flight` what is wanted."""
    is_idle = running > 0 and activity is not None and activity.is_idle_since(before.activity)
    return Liveness(
        idle=before.idle + 1 if is_idle else 0,
        abandoned=before.abandoned + 1 if running > 0 and in_flight == 0 else 0,
        timed_out=before.timed_out and running > 0,
        activity=activity,
    )


def missed(before: Liveness, activity: Activity | None) -> Liveness:
    """After a look that was not answered; `activity` None where the process cannot be seen."""
    last = before.activity
    if before.missed and activity and last and activity.at - last.at < LEAST_APART_S:
        return before
    is_stopped = activity is not None and activity.is_stopped
    is_idle = activity is not None and activity.is_idle_since(before.activity)
    return Liveness(
        missed=before.missed + 1,
        stopped=before.stopped + 1 if is_stopped else 0,
        idle=before.idle + 1 if is_idle else 0,
        timed_out=before.timed_out,
        activity=activity,
    )


def timed_out(before: Liveness) -> Liveness:
    """After a request whose promised time has run out."""
    return replace(before, timed_out=True)


def finished(before: Liveness) -> Liveness:
    """After a request that the worker has answered."""
    return replace(before, timed_out=False, abandoned=0)


def _is_late(seen: Liveness) -> bool:
    return seen.missed >= LATE_LOOKS or (seen.missed > 0 and seen.stopped > 0)


def _is_hung(seen: Liveness) -> bool:
    if seen.missed == 0:
        return (seen.timed_out and seen.idle >= IDLE_LOOKS) or seen.abandoned >= ABANDONED_LOOKS
    if seen.timed_out:
        limits = STOPPED_LOOKS_AFTER_TIMEOUT, IDLE_LOOKS_AFTER_TIMEOUT, BUSY_LOOKS_AFTER_TIMEOUT
    else:
        limits = STOPPED_LOOKS, IDLE_LOOKS, BUSY_LOOKS
    stopped, idle, busy = limits
    quiet = min(seen.missed, seen.idle)
    return seen.stopped >= stopped or quiet >= idle or seen.missed >= busy
