"""`conductor requests`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conductor_admin.auth.caller import OWNER
from conductor_admin.lifecycle.load_record import LoadRecord
from conductor_admin.planner import plan
from conductor_admin.telemetry.trace import Trace
from conductor_core.settings.parser import parse_settings
from handlers.wire import Done, GenerateBody, Timings, Usage
from tests.conductor.command_line import Invoke
from tests.conductor.conftest import TABLE
from tests.conductor.fake_gateway import FakeGateway


def trace(name: str) -> dict[str, Any]:
    """The trace of an answered request whose load evicted another set, as the gateway writes it."""
    found = Trace(plan(parse_settings(TABLE), GenerateBody(prompt="x"), name, caller=OWNER))
    story = LoadRecord("conversational_chat")
    story.enter("wait")
    story.queued(1, 2)
    story.took_the_place_of("translation", "memory")
    story.end("ready")
    found.wait.joins(story)
    found.has_worker(77)
    found.relayed(b'{"delta":"x"}\n')
    timings = Timings(first_token_s=0.5, total_s=1.5)
    usage = Usage(prompt_tokens=5, completion_tokens=21)
    found.is_done(Done(finish_reason="stop", usage=usage, timings=timings, findings={"words": 2}, text="x"))
    return found.to_json()


@pytest.fixture
def port(gateway: FakeGateway) -> str:
    gateway.requests = [trace("b2"), trace("a1")]
    return str(gateway.port)


def test_requests_are_listed_in_the_gateways_order(
    conductor: Invoke, gateway: FakeGateway, port: str
) -> None:
    head, *lines = conductor("requests", "-n", "7", "--port", port).stdout.splitlines()
    assert head.split() == [
        "ID",
        "BEGAN",
        "ROUTE",
        "CATEGORY",
        "STATE",
        "QUEUE",
        "FIRST",
        "TOKENS/S",
        "SECONDS",
    ]
    assert [line.split()[0] for line in lines] == ["b2", "a1"]
    assert " succeeded " in lines[0]
    assert gateway.calls == ["/requests?limit=7"]


def test_one_request_is_told_in_the_order_in_which_it_happened(conductor: Invoke, port: str) -> None:
    lines = conductor("requests", "a1", "--port", port).stdout.splitlines()
    said = "\n".join(lines)
    for words in (
        "for conversational_chat, demo/model.gguf",
        "load of conversational_chat: 0.00s (wait 0.00s), ready",
        "waited for memory, 1 of 2",
        "translation was unloaded: memory",
        "worker 77: first token",
        "5 prompt tokens, 21 generated, 20 per second",
        "check words: 2",
    ):
        assert words in said
    assert lines[-1].endswith(": stop")


def test_requests_are_json_on_request_and_an_unknown_one_is_an_error(conductor: Invoke, port: str) -> None:
    listed = json.loads(conductor("requests", "--json", "--port", port).stdout)
    assert [one["id"] for one in listed["requests"]] == ["b2", "a1"]
    assert json.loads(conductor("requests", "a1", "--json", "--port", port).stdout)["id"] == "a1"
    unknown = conductor("requests", "c3", "--port", port)
    assert unknown.exit_code == 1
    assert "no such request" in unknown.stderr
