"""`GET /metrics`: figures for Prometheus, counted since the start or true at the moment of a scrape.

Reads the gateway's parts and changes none, so that a scrape loads nothing and keeps no set from being idle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping

from fastapi import APIRouter
from prometheus_client import Metric, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from conductor_admin.auth.caller import Caller, caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.lifecycle.states import State
from conductor_admin.lifecycle.worker_sets import WorkerSetView
from handlers.wire import RequestError


async def exposed(gateway: Gateway, accept: str, caller: Caller) -> tuple[bytes, str]:
    """The metrics and their content type: OpenMetrics if `accept` asks for it, else Prometheus' text.

    A key that is limited to some categories gets only their samples: figures of the whole server would
    reveal the use by others.
    """
    for row in gateway.catalogue.rows:
        gateway.telemetry.metrics.category(row.slug)
    now = [*_requests(gateway), *_models(gateway.lifecycle.views()), *_memory(gateway), *_counted(gateway)]
    now += await _sessions(gateway)
    encode, content_type = exposition.choose_encoder(accept)
    # In a thread: the text of many categories takes milliseconds, in which no stream would be served.
    text = await asyncio.to_thread(encode, _Both(gateway.telemetry.metrics.registry, now, caller))
    return text, content_type


class _Both(Collector):
    def __init__(self, counted: Collector, now: Iterable[Metric], caller: Caller) -> None:
        self._counted = counted
        self._now = now
        self._caller = caller

    def collect(self) -> Iterator[Metric]:
        for metric in (*self._counted.collect(), *self._now):
            if self._caller.is_restricted:
                metric.samples = [sample for sample in metric.samples if self._is_own(sample.labels)]
            yield metric

    def _is_own(self, labels: Mapping[str, str]) -> bool:
        slug = labels.get("model_name", labels.get("category"))
        return slug is not None and self._caller.may_use(slug)


def _gauge(name: str, says: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"conductor_{name}", says, labels=labels)


def _requests(gateway: Gateway) -> Iterator[Metric]:
    tally: Tally[tuple[str, str]] = Tally(
        (trace.job.row.slug, trace.state) for trace in gateway.telemetry.traces.running()
    )
    slugs = {row.slug for row in gateway.catalogue.rows} | {slug for slug, _ in tally}
    for name, says, state in (
        ("num_requests_running", "Generations that run in a worker.", "running"),
        ("num_requests_waiting", "Generations that wait for a worker.", "queued"),
    ):
        gauge = _gauge(name, says, "model_name")
        for slug in sorted(slugs):
            gauge.add_metric([slug], tally[slug, state])
        yield gauge


def _models(views: list[WorkerSetView]) -> Iterator[Metric]:
    loaded = _gauge("models_loaded", "Worker sets that are ready.")
    loaded.add_metric([], sum(view.state is State.READY for view in views))
    memory = _gauge("model_memory_bytes", "Memory of a worker set, by kind.", "category", "kind")
    for view in views:
        for kind, size in (
            ("declared", view.worker_set.declared_memory),
            ("estimated", view.estimated),
            ("measured", view.measured),
            ("peak", view.peak),
        ):
            if size is not None:
                memory.add_metric([view.worker_set.name, kind], size)
    held = _gauge("worker_loop_held_steps", "Event loop steps that took 50 ms or more.", "category")
    longest = _gauge("worker_loop_longest_seconds", "Longest event loop step.", "category")
    for view in views:
        held.add_metric([view.worker_set.name], sum(worker.loop_held for worker in view.workers))
        longest_s = max((worker.loop_longest_s for worker in view.workers), default=0.0)
        longest.add_metric([view.worker_set.name], longest_s)
    yield from (loaded, memory, held, longest)


def _memory(gateway: Gateway) -> Iterator[Metric]:
    admission = gateway.lifecycle.admission
    charged = admission.charged
    for name, says in (("budget", "that models may take"), ("used", "that is charged to loaded models")):
        gauge = _gauge(f"memory_{name}_bytes", f"Memory {says}.", "device")
        for device, size in admission.budget.items():
            gauge.add_metric([device], size if name == "budget" else charged.get(device, 0))
        yield gauge
    free = _gauge("memory_free_bytes", "Memory that models may still take.", "device")
    for device, size in admission.budget.items():
        free.add_metric([device], max(0, size - charged.get(device, 0)))
    yield free


def _counted(gateway: Gateway) -> Iterator[Metric]:
    swaps = gateway.lifecycle.admission.swaps
    for name, says, value in (
        ("swaps", "Loads that had to unload another model first.", swaps.made),
        ("auth_failures", "Requests refused without a valid key.", gateway.keys.failures),
    ):
        yield CounterMetricFamily(f"conductor_{name}", says, value=value)
    avoided = _gauge("swaps_avoided", "Swaps saved compared with serving in order of arrival.")
    avoided.add_metric([], swaps.avoided)
    uptime = _gauge("uptime_seconds", "Seconds since the gateway started.")
    uptime.add_metric([], gateway.stats.uptime_s)
    yield from (avoided, uptime)


async def _sessions(gateway: Gateway) -> list[Metric]:
    kept = _gauge("sessions", "Stored conversations.")
    with contextlib.suppress(RequestError):  # a broken database is logged, and the other figures are whole
        kept.add_metric([], await gateway.sessions.store.count())
    return [kept]


def router(gateway: Gateway) -> APIRouter:
    """The route over `gateway`."""
    routes = APIRouter()

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """Metrics as Prometheus' text, or as OpenMetrics if requested; loads nothing."""
        text, content_type = await exposed(gateway, request.headers.get("accept", ""), caller_of(request))
        # Not `media_type`, to which a charset would be added a second time.
        return Response(text, headers={"content-type": content_type, "cache-control": "no-store"})

    return routes
