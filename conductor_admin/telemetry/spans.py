"""One OpenTelemetry span for each generation, named by the conventions for generative AI.

Exported to `OTEL_EXPORTER_OTLP_ENDPOINT`, if the extra `otel` is installed. The provider is the process's
global one, so that spans of the MCP SDK are exported too and are parents of those of generations. No prompt
and no answer is an attribute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Protocol

import structlog
from opentelemetry import context, propagate, trace
from opentelemetry.trace import SpanKind, StatusCode, Tracer, get_current_span
from opentelemetry.util.types import AttributeValue

from conductor_admin.telemetry.trace import Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = structlog.get_logger()

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_OPERATIONS = {"/v1/embeddings": "embeddings", "/v1/completions": "text_completion"}
_FLUSH_MS = 3000

Finish = Callable[[Trace], None]


class Spans(Protocol):
    """Receiver of spans of generations."""

    def begin(self, trace: Trace) -> Finish:
        """Begin the span of a generation under its parent; call the result at the generation's end."""
        ...

    def close(self) -> None:
        """Export the remaining spans; blocks for a few seconds at most."""
        ...


class NoSpans:
    """Receiver that makes no spans."""

    def begin(self, trace: Trace) -> Finish:
        return lambda _: None

    def close(self) -> None:
        """Do nothing."""


class OtelSpans:
    """Spans that `provider` exports."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("conductor", metadata.version("conductor"))

    def begin(self, trace: Trace) -> Finish:
        parent = context.get_current()
        # An SDK, as that of MCP, may have started a span around this call.
        is_inner = get_current_span(parent).get_span_context().is_valid
        if not is_inner:
            parent = propagate.extract(trace.request_context.carrier, context=parent)
        kind = SpanKind.INTERNAL if is_inner else SpanKind.SERVER

        def finish(trace: Trace) -> None:
            _emit(self._tracer, parent, kind, trace)

        return finish

    def close(self) -> None:
        self._provider.force_flush(_FLUSH_MS)
        self._provider.shutdown()


def open_spans(environment: Mapping[str, str]) -> Spans:
    """Open the exporter that the environment names; without the extra, log a warning and make no spans."""
    if not any(environment.get(name) for name in ENDPOINTS):
        return NoSpans()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        cause = "an OTLP endpoint is set, but the extra conductor[otel] is not installed"
        log.warning("no_spans", cause=cause)
        return NoSpans()
    named = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": "conductor"}
    provider = TracerProvider(resource=Resource.create(dict(named)), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return OtelSpans(provider)


def _emit(tracer: Tracer, parent: context.Context, kind: SpanKind, ended: Trace) -> None:
    def at(moment: float) -> int:
        """Unix time in nanoseconds of a monotonic time of this generation."""
        return int((ended.started_at + moment - ended.began) * 1e9)

    span = tracer.start_span(
        f"{_operation(ended)} {ended.job.row.slug}",
        context=parent,
        kind=kind,
        attributes=dict(_attributes(ended)),
        start_time=at(ended.began),
    )
    for name, moment, attributes in _events(ended):
        span.add_event(name, attributes, timestamp=at(moment))
    if ended.error is not None:
        span.set_status(StatusCode.ERROR, ended.error.code or "")
    span.end(at(time.monotonic() if ended.ended is None else ended.ended))


def _operation(ended: Trace) -> str:
    return _OPERATIONS.get(ended.request_context.route, "chat")


def _attributes(ended: Trace) -> Iterator[tuple[str, AttributeValue]]:
    planned, done = ended.job, ended.done
    yield "gen_ai.operation.name", _operation(ended)
    yield "gen_ai.provider.name", "conductor"
    yield "gen_ai.request.model", planned.row.slug
    yield "gen_ai.response.model", planned.row.technical_model_name
    yield "gen_ai.response.id", planned.request.id
    yield "http.route", ended.request_context.route
    host = ended.request_context.host
    name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if name or host:
        yield "server.address", (name or host).strip("[]")
    if name and port.isdigit():
        yield "server.port", int(port)
    if planned.session:
        yield "gen_ai.conversation.id", planned.session.id
    if ended.workers:
        yield "conductor.worker.pid", ended.workers[-1]
    if done is not None:
        yield "gen_ai.usage.input_tokens", done.usage.prompt_tokens
        yield "gen_ai.usage.output_tokens", done.usage.completion_tokens
        yield "gen_ai.response.finish_reasons", [done.finish_reason]
    if ended.first_token_s is not None:
        yield "gen_ai.response.time_to_first_chunk", ended.first_token_s
    if ended.state in ("failed", "cancelled"):
        yield "error.type", (ended.error.code if ended.error else None) or ended.state


def _events(ended: Trace) -> Iterator[tuple[str, float, dict[str, AttributeValue]]]:
    """Yield events of the generation: loads it waited for, its worker, its first token."""
    for load_record in ended.wait.loads:
        attributes: dict[str, AttributeValue] = {
            "set": load_record.set_name,
            "seconds": load_record.seconds,
            "result": load_record.result or "unfinished",
            "evicted": [name for name, _ in load_record.evicted],
        }
        yield "conductor.load", max(load_record.began, ended.began), attributes
    if ended.given is not None:
        yield "conductor.queue", ended.given, {"seconds": ended.queue_s, "ahead": ended.wait.ahead}
    if ended.first is not None:
        yield "gen_ai.first_token", ended.first, {}
