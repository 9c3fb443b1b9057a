"""Spans of generations: their names, their parents, and the case without the SDK."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from conductor_admin.telemetry.spans import NoSpans, OtelSpans, open_spans
from tests.conductor_admin.gateway_rig import Rig

CHAT = "conversational_chat"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


@pytest.fixture
def exporter(rig: Rig) -> Iterator[InMemorySpanExporter]:
    """Exporter that collects the spans of the rig."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    rig.gateway.telemetry.spans = OtelSpans(provider)
    yield exporter
    provider.shutdown()


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


async def ask(rig: Rig, headers: dict[str, str] | None = None, **more: Any) -> Any:
    return await rig.client.post("/generate", json={"prompt": "secret", **more}, headers=headers)


async def test_a_generation_is_one_span_by_the_conventions(rig: Rig, exporter: InMemorySpanExporter) -> None:
    answer = (await ask(rig)).json()
    span = only(exporter)
    assert (span.name, span.kind, span.parent) == (f"chat {CHAT}", SpanKind.SERVER, None)
    host, _, port = rig.url.removeprefix("http://").partition(":")
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "conductor",
        "gen_ai.request.model": CHAT,
        "gen_ai.response.model": "models/small.gguf",
        "gen_ai.response.id": answer["id"],
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
        "http.route": "/generate",
        "server.address": host,
        "server.port": int(port),
    }
    assert span.attributes is not None
    assert {name: span.attributes[name] for name in wanted} == wanted
    assert "error.type" not in span.attributes
    assert "secret" not in str(span.to_json())


async def test_load_queue_and_first_token_are_events_in_order(
    rig: Rig, exporter: InMemorySpanExporter
) -> None:
    await ask(rig)
    span = only(exporter)
    assert [event.name for event in span.events] == [
        "conductor.load",
        "conductor.queue",
        "gen_ai.first_token",
    ]
    assert span.start_time is not None
    assert span.end_time is not None
    times = [span.start_time, *(event.timestamp for event in span.events), span.end_time]
    assert times == sorted(times)


async def test_a_span_belongs_to_the_trace_of_its_client(rig: Rig, exporter: InMemorySpanExporter) -> None:
    await ask(rig, TRACEPARENT)
    span = only(exporter)
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    exporter.clear()
    for broken in ("", "00-0-0-01", "x" * 1000):
        await ask(rig, {"traceparent": broken})
    assert [span.parent for span in exporter.get_finished_spans()] == [None] * 3


async def test_errors_and_clients_that_leave_have_their_type(
    rig: Rig, exporter: InMemorySpanExporter
) -> None:
    rig.torchserve.traceback = "ValueError: broken"
    await ask(rig)
    failed = only(exporter)
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "model_load_failed"
    exporter.clear()
    rig.torchserve.may_load.clear()
    leaving = asyncio.create_task(ask(rig, category="translation"))
    await rig.until(lambda: len(list(rig.gateway.telemetry.traces.running())) == 1)
    leaving.cancel()
    await rig.until(lambda: bool(exporter.get_finished_spans()))
    left = only(exporter).attributes
    assert left is not None
    assert left["error.type"] == "cancelled"


async def test_operations_are_told_apart(rig: Rig, exporter: InMemorySpanExporter) -> None:
    await rig.client.post("/v1/completions", json={"model": CHAT, "prompt": "x"})
    assert only(exporter).name == f"text_completion {CHAT}"


def test_without_an_endpoint_there_are_no_spans() -> None:
    with capture_logs() as logs:
        assert isinstance(open_spans({}), NoSpans)
    assert not logs


def test_an_endpoint_without_the_extra_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with capture_logs() as logs:
        assert isinstance(open_spans({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}), NoSpans)
    (line,) = logs
    assert line["log_level"] == "warning"
    assert "conductor[otel]" in line["cause"]
