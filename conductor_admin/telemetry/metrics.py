"""Counters and histograms for `/metrics`, by prometheus-client, counted since the start.

Names are those of vLLM with the prefix `conductor_`, so that vLLM's dashboards fit after one replacement.
Knows no gateway; `conductor_admin.api.native.metrics` adds the gauges of the moment of a scrape. Label values
come from SETTINGS.md, from the table of routes and from this code, never from a client.
"""

from __future__ import annotations

import platform
from importlib import metadata

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from conductor_admin.lifecycle.load_record import EvictionReason, LoadRecord
from conductor_admin.telemetry.trace import Stage, Trace
from handlers.wire import RequestError

OTHER = "other"
_MOST_CODES = 100
_FIRST_TOKEN_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_LONGER_S = (20, 40, 80, 160, 320, 640)  # a first token may wait for a load, and a CPU is slow
_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10)
_REQUEST_S = tuple(0.01 * 2**n for n in range(18))  # to 22 minutes
_HELD_S = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_LAG_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_LOAD_S = (0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280)


class Category:
    """Metrics of one category, looked up once: a look-up by labels costs as much as counting."""

    def __init__(self, of: Metrics, slug: str) -> None:
        self.of = of
        self.slug = slug
        self.prompt_tokens = of.prompt_tokens.labels(slug)
        self.generation_tokens = of.generation_tokens.labels(slug)
        self.first_token = of.first_token.labels(slug)
        self.token = of.token.labels(slug)
        self.e2e = of.e2e.labels(slug)
        self.queue = of.queue.labels(slug)
        self.prefill = of.prefill.labels(slug)
        self.decode = of.decode.labels(slug)
        self.success = {reason: of.success.labels(slug, reason) for reason in ("stop", "length")}

    def ended(self, trace: Trace) -> None:
        """Count a generation that ended well."""
        assert trace.done is not None
        done = trace.done
        reason = self.success.get(done.finish_reason) or self.of.success.labels(self.slug, done.finish_reason)
        reason.inc()
        self.prompt_tokens.inc(done.usage.prompt_tokens)
        self.generation_tokens.inc(done.usage.completion_tokens)
        self.e2e.observe(trace.seconds)
        self.queue.observe(trace.queue_s)
        for histogram, seconds in (
            (self.first_token, trace.first_token_s),
            (self.prefill, trace.prefill_s),
            (self.decode, trace.decode_s),
            (self.token, trace.token_s),
        ):
            if seconds is not None:
                histogram.observe(seconds)


class Metrics:
    """All metrics in a registry of their own; a `LifecycleListener` for loads, evictions and lost workers."""

    def __init__(self) -> None:
        # Else each counter would have a second series with the time of its creation.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._categories: dict[str, Category] = {}
        self._codes: set[str] = set()
        self._generations()
        self._failures()
        self._sets()
        self._process()

    def category(self, slug: str) -> Category:
        """Metrics of a category of SETTINGS.md; from the first call on they are exposed, even as 0."""
        found = self._categories.get(slug)
        if found is None:
            found = self._categories[slug] = Category(self, slug)
        return found

    def failed(self, slug: str, error: RequestError) -> None:
        """Count a generation that ended with an error, or one that was refused before it began."""
        code = error.code or "none"
        if code in self._codes or len(self._codes) < _MOST_CODES:
            self._codes.add(code)
        else:
            code = OTHER
        self.errors.labels(slug, code).inc()
        if error.code == "rate_limit_exceeded":
            self.rate_limited.inc()

    def left(self, slug: str, stage: Stage) -> None:
        """Count a generation that was cancelled, by the client or by the end of its key."""
        self.cancelled.labels(slug, stage).inc()

    def answered(self, route: str, status: int) -> None:
        """Count an HTTP request, by the template of its route."""
        self.http.labels(route, str(status)).inc()

    def load_ended(self, load_record: LoadRecord) -> None:
        """Count a load, which the restart of a lost worker is not; only one that succeeded is timed."""
        if load_record.is_restart:
            return
        self.loads.labels(load_record.set_name, load_record.result or OTHER).inc()
        if load_record.result == "ready":
            self.load_seconds.labels(load_record.set_name).observe(load_record.seconds)

    def evicted(self, name: str, why: EvictionReason) -> None:
        """Count an eviction."""
        self.evictions.labels(name, why).inc()

    def worker_lost(self, name: str) -> None:
        """Count a worker that ended by itself, which TorchServe starts again."""
        self.restarts.labels(name).inc()

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"conductor_{name}", says, labels, registry=self.registry)

    def _histogram(self, name: str, says: str, label: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"conductor_{name}", says, (label,), buckets=buckets, registry=self.registry)

    def _generations(self) -> None:
        by = "model_name"
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts of answered requests.", by)
        self.generation_tokens = self._counter("generation_tokens", "Tokens of answers.", by)
        self.success = self._counter(
            "request_success", "Generations that succeeded, by finish reason.", by, "finished_reason"
        )
        long = (*_FIRST_TOKEN_S, *_LONGER_S)
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "Time from arrival to the first piece of the answer.", by, long
        )
        self.token = self._histogram(
            "inter_token_latency_seconds", "Mean time between two tokens of each answer.", by, _TOKEN_S
        )
        self.e2e = self._histogram(
            "e2e_request_latency_seconds", "Time from arrival to the end of the answer.", by, _REQUEST_S
        )
        self.queue = self._histogram(
            "request_queue_time_seconds", "Time of the wait for a worker, loads included.", by, _REQUEST_S
        )
        self.prefill = self._histogram(
            "request_prefill_time_seconds", "Time in the worker until the first token.", by, long
        )
        self.decode = self._histogram(
            "request_decode_time_seconds", "Time in the worker after the first token.", by, _REQUEST_S
        )

    def _failures(self) -> None:
        self.errors = self._counter(
            "request_errors", "Generations that failed or were refused, by code.", "model_name", "code"
        )
        self.cancelled = self._counter(
            "request_cancelled", "Generations that were cancelled, by phase.", "model_name", "phase"
        )
        self.rate_limited = self._counter("rate_limited", "Generations refused by the limits of a key.")
        self.http = self._counter("http_requests", "HTTP requests, by route and status.", "route", "code")

    def _sets(self) -> None:
        self.loads = self._counter("model_loads", "Loads that ended, by result.", "category", "result")
        self.load_seconds = self._histogram(
            "model_load_seconds", "Time of loads, the wait for memory included.", "category", _LOAD_S
        )
        self.evictions = self._counter(
            "model_evictions", "Worker sets unloaded to free memory, by reason.", "category", "reason"
        )
        self.restarts = self._counter("worker_restarts", "Workers that ended by themselves.", "category")

    def _process(self) -> None:
        build = Info("conductor_build", "Version of Conductor and of Python.", registry=self.registry)
        build.info({"version": metadata.version("conductor"), "python": platform.python_version()})
        self.held_back = self._counter(
            "requests_held_back", "Requests that waited because their client had used its share."
        )
        self.loop_held = self._histogram(
            "event_loop_held_seconds", "Steps that blocked the event loop for 50 ms or more.", "step", _HELD_S
        )
        self.loop_held.labels(OTHER)  # exposed from the beginning, even as 0
        self.loop_lag = Histogram(
            "conductor_event_loop_lag_seconds",
            "Wait of a callback for the event loop, sampled while the loop is busy.",
            buckets=_LAG_S,
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
