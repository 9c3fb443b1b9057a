"""Exported spans of a gateway's process: its own spans, as children of those of the MCP SDK."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from tests.serving import serving

pytestmark = pytest.mark.slow

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Sink(ThreadingHTTPServer):
    """Server that receives spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.received: list[ResourceSpans] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def spans(self) -> list[Span]:
        return [span for one in self.received for scope in one.scope_spans for span in scope.spans]


class _Handler(BaseHTTPRequestHandler):
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/v1/traces"
        self.server.received += ExportTraceServiceRequest.FromString(body).resource_spans
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        serving_spans = threading.Thread(target=sink.serve_forever)
        serving_spans.start()
        yield sink
        sink.shutdown()
        serving_spans.join()


async def test_spans_of_the_gateway_and_of_the_mcp_sdk_go_the_same_way(sink: Sink, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with serving(state, "--skip-model-loading", OTEL_EXPORTER_OTLP_ENDPOINT=sink.url) as server:
        with server.client() as http:
            http.post("/generate", json={"prompt": "x"}, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
        async with Client(streamable_http_client(f"{server.url}/mcp")) as client:
            await client.call_tool("generate_text", {"prompt": "x"})
    (own,) = [span for span in sink.spans if span.trace_id.hex() == TRACE]
    assert (own.name, own.parent_span_id.hex()) == ("chat conversational_chat", PARENT)
    errors = {one.key: one.value.string_value for one in own.attributes}
    assert errors["error.type"] == "model_loading_skipped"
    (called,) = [span for span in sink.spans if span.name == own.name and span is not own]
    above = {span.span_id: span for span in sink.spans}[called.parent_span_id]
    assert "generate_text" in above.name
    (service,) = {
        one.value.string_value
        for resource in sink.received
        for one in resource.resource.attributes
        if one.key == "service.name"
    }
    assert service == "conductor"
