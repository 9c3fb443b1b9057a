"""Watch of the gateway's event loop: a histogram of steps that blocked it, and a log line for each."""

from __future__ import annotations

import structlog

from conductor_admin.http.request_context import route_of
from conductor_admin.telemetry.metrics import Metrics
from handlers.diagnostics.loop_watch import Holds, LoopStall, LoopWatch

log = structlog.get_logger()


def watch_loop(metrics: Metrics) -> LoopWatch:
    """Make a watch, started by `start`, that counts blocking steps and logs each place once a minute."""
    holds = Holds()

    def report(held: LoopStall) -> None:
        if held.is_over:
            metrics.loop_held.labels(held.route or held.step).observe(held.seconds)
        if holds.add(held):
            log.warning(
                "event_loop_held",
                step=held.step,
                place=held.place,
                task=held.task,
                route=held.route,
                seconds=round(held.seconds, 3),
                cpu_seconds=round(held.cpu_s, 3),
                is_over=held.is_over,
            )

    return LoopWatch(report, metrics.loop_lag.observe, route_of)
