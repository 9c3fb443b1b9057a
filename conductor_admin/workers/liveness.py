"""Liveness: tells a hung worker from a busy one by the results of its health checks; pure.

A check (a look) is a health request, every five seconds and whenever a request has timed out. The openvino
runtime steps on the worker's own event loop, so a worker that reads a long prompt does not answer during a
step: seconds, and more on a slow machine. Silence alone therefore ends no worker soon. The rules:

- Stopped (every thread is stopped, by SIGSTOP): the third look without an answer ends it. A healthy worker
  is never stopped.
- Idle (no processor time, no thread that runs or waits for the disk): the sixth look without an answer. Such
  a worker waits for something that does not come.
- Busy: the twenty-fourth look without an answer, two minutes; no step takes that long.
- Once a request on the worker has timed out, the limits are lower.
- A worker that answers is hung too if a request has timed out while its runtime had work and used no
  processor time for six looks, or if its runtime works for a minute although no request is in flight.

A debugger's stop (state `t`) counts as idle. Looks are counted, not seconds, because a
gateway that is itself stopped makes none.
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
"""Looks without an answer after which a worker is avoided and reported."""
LEAST_APART_S = 3.0
"""Least seconds between two counted looks without answer, so that many time-outs at once count once."""


class Condition(StrEnum):
    """Condition of a worker as shown in `/models`; a HUNG worker is ended at once."""

    READY = "READY"
    UNRESPONSIVE = "UNRESPONSIVE"
    HUNG = "HUNG"


@dataclass(frozen=True, slots=True)
class Liveness:
    """Results of the looks at one worker; each count is of consecutive looks up to the latest.

    `timed_out` means that a request has timed out since the runtime last had nothing to do.
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
        if _is_hung(self):
            return Condition.HUNG
        is_late = self.missed >= LATE_LOOKS or (self.missed > 0 and self.stopped > 0)
        return Condition.UNRESPONSIVE if is_late else Condition.READY


def answered(before: Liveness, activity: Activity | None, *, running: int, in_flight: int) -> Liveness:
    """Liveness after an answered look; `running` requests in the runtime, `in_flight` in the gateway."""
    is_idle = running > 0 and activity is not None and activity.is_idle_since(before.activity)
    return Liveness(
        idle=before.idle + 1 if is_idle else 0,
        abandoned=before.abandoned + 1 if running > 0 and in_flight == 0 else 0,
        timed_out=before.timed_out and running > 0,
        activity=activity,
    )


def missed(before: Liveness, activity: Activity | None) -> Liveness:
    """Liveness after a look without answer; `activity` is None if the process cannot be read."""
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
    """Liveness after a request that has timed out."""
    return replace(before, timed_out=True)


def finished(before: Liveness) -> Liveness:
    """Liveness after a request that the worker has answered."""
    return replace(before, timed_out=False, abandoned=0)


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
