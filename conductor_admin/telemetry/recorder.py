"""Follows each generation, and records its end once in metrics, traces, spans and the log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import structlog

from conductor_admin.planner import PlannedRequest
from conductor_admin.telemetry.metrics import OTHER, Metrics
from conductor_admin.telemetry.spans import NoSpans, Spans
from conductor_admin.telemetry.trace import Trace, Traces
from handlers.wire import RequestError

log = structlog.get_logger()


class Telemetry:
    """Metrics, traces, spans and log lines of the generations of one gateway."""

    def __init__(self, metrics: Metrics | None = None, spans: Spans | None = None) -> None:
        self.metrics = metrics or Metrics()
        self.traces = Traces()
        self.spans = spans or NoSpans()

    @contextlib.contextmanager
    def follow(self, planned: PlannedRequest) -> Iterator[Trace]:
        """Begin the trace of a generation, which ends with the block.

        A generation that ends without a last record and without a RequestError counts as cancelled.
        """
        trace = Trace(planned)
        self.traces.begin(trace)
        finish = self.spans.begin(trace)
        try:
            yield trace
        except RequestError as error:
            if trace.done is None:
                trace.error = error
            raise
        finally:
            trace.ended = trace.ended or time.monotonic()
            self.traces.end(trace)
            self._record(trace)
            finish(trace)

    @contextlib.contextmanager
    def refusals(self) -> Iterator[None]:
        """Count a request that is refused before its category is known."""
        try:
            yield
        except RequestError as error:
            self.metrics.failed(OTHER, error)
            raise

    def _record(self, trace: Trace) -> None:
        """Count the ended generation and write its log line."""
        slug, figures = trace.job.row.slug, trace.figures()
        if trace.done is not None:
            self.metrics.category(slug).ended(trace)
            log.info("generation", **figures)
        elif trace.error is not None:
            self.metrics.failed(slug, trace.error)
            log.info("generation_failed", **figures, code=trace.error.code, status=trace.error.status)
        else:
            self.metrics.left(slug, trace.stage)
            log.info("generation_cancelled", **figures, stage=trace.stage)
