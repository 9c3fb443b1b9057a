"""`conductor ps`, `load` and `unload`."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from conductor.commands.processes import expiry
from tests.conductor.command_line import Invoke
from tests.conductor.fake_gateway import FakeGateway, model


def test_ps_lists_each_loaded_set_once(conductor: Invoke, gateway: FakeGateway) -> None:
    shared = ["general_reasoning"]
    gateway.models = [
        model("general_reasoning"),
        model(shared_with=shared),
        model("idle", set="idle", state="UNAVAILABLE", workers=[]),
    ]
    result = conductor("ps", "--port", str(gateway.port))
    head, *lines = result.stdout.splitlines()
    assert head.split()[:3] == ["SET", "STATE", "MODEL"]
    assert len(lines) == 1
    assert lines[0].split() == [
        "conversational_chat",
        "READY",
        "Demo",
        "Q4_1",
        "cpu",
        *("1", "GB"),
        "-",
        *("500", "MB"),
        "1",
        "2",
        "2",
        "-",
    ]


def test_ps_all_also_lists_what_is_not_loaded(conductor: Invoke, gateway: FakeGateway) -> None:
    gateway.models = [model("idle", set="idle", state="UNAVAILABLE", workers=[])]
    assert "UNAVAILABLE" in conductor("ps", "-a", "--port", str(gateway.port)).stdout


def test_ps_shows_how_far_a_load_is_and_why_one_failed(conductor: Invoke, gateway: FakeGateway) -> None:
    gateway.models = [
        model(state="LOADING", phase="convert", progress=0.41),
        model("b", set="b", state="FAILED", last_error="no such file"),
    ]
    said = conductor("ps", "--port", str(gateway.port)).stdout
    assert "LOADING (convert 41%)" in said
    assert "b: no such file" in said


def test_ps_json_is_what_the_gateway_said(conductor: Invoke, gateway: FakeGateway) -> None:
    said = conductor("ps", "--json", "--port", str(gateway.port)).stdout
    assert json.loads(said) == {"models": gateway.models}


def test_load_and_unload_call_the_admin_routes(conductor: Invoke, gateway: FakeGateway) -> None:
    port = ["--port", str(gateway.port)]
    assert conductor("load", "conversational_chat", *port).stdout == "conversational_chat is READY\n"
    conductor("unload", "conversational_chat", *port)
    conductor("unload", "conversational_chat", "--force", "--now", *port)
    assert gateway.calls == [
        "/admin/models/conversational_chat/load?",
        "/admin/models/conversational_chat/unload?mode=drain",
        "/admin/models/conversational_chat/unload?mode=now&force=true",
    ]


def test_a_refused_unload_shows_the_gateway_s_reason(conductor: Invoke, gateway: FakeGateway) -> None:
    gateway.refusal = (409, "also held by general_reasoning")
    result = conductor("unload", "conversational_chat", "--port", str(gateway.port))
    assert (result.exit_code, result.stderr) == (1, "Error: also held by general_reasoning\n")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (1060.0, "in 60 s"), (1600, "in 10 min"), (900, "in 0 s")],
)
def test_expiry_is_the_time_that_is_left(value: float | None, shown: str) -> None:
    assert expiry(value, now=1000.0) == shown


def test_expiry_reads_iso_times() -> None:
    at = datetime(2030, 1, 1, 12, 0, 30, tzinfo=UTC)
    assert expiry(at.isoformat(), now=at.timestamp() - 30) == "in 30 s"
