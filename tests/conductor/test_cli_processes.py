"""`conductor ps`, `load` and `unload`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from conductor import load_progress
from conductor.client import GatewayClient
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
    assert lines[1:] == ["conversational_chat: shared with general_reasoning"]
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
        model("c", set="c", state="LOADING", phase="wait", position=2, queue=3),
        model("b", set="b", state="FAILED", last_error="no such file"),
    ]
    said = conductor("ps", "--port", str(gateway.port)).stdout
    assert "LOADING (convert 41%)" in said
    assert "LOADING (queued 2 of 3)" in said
    assert "b: no such file" in said


def test_ps_json_is_what_the_gateway_said(conductor: Invoke, gateway: FakeGateway) -> None:
    said = conductor("ps", "--json", "--port", str(gateway.port)).stdout
    assert json.loads(said) == {"models": gateway.models}


def test_ps_tells_what_of_an_edit_is_not_in_force(conductor: Invoke, gateway: FakeGateway) -> None:
    mistake = "SETTINGS.md:10:3: Stay Loaded: expected true"
    gateway.health = {"settings": {"errors": [mistake]}, "failed_changes": ["chat: no such file"]}
    said = conductor("ps", "--port", str(gateway.port)).stderr
    assert said.splitlines() == [f"not applied: {mistake}", "change failed: chat: no such file"]


def test_load_and_unload_call_the_admin_routes(conductor: Invoke, gateway: FakeGateway) -> None:
    port = ["--port", str(gateway.port)]
    assert conductor("load", "conversational_chat", *port).stdout == "conversational_chat is READY\n"
    conductor("unload", "conversational_chat", *port)
    conductor("unload", "conversational_chat", "--force", "--now", *port)
    conductor("unload", "conversational_chat", "--mode", "now", *port)
    assert gateway.calls == [
        "/admin/models/conversational_chat/load?",
        "/admin/models/conversational_chat/unload?mode=drain",
        "/admin/models/conversational_chat/unload?mode=now&force=true",
        "/admin/models/conversational_chat/unload?mode=now",
    ]


def test_load_and_unload_print_the_row_as_json(conductor: Invoke, gateway: FakeGateway) -> None:
    for verb in ("load", "unload"):
        result = conductor(verb, "conversational_chat", "--json", "--port", str(gateway.port))
        assert json.loads(result.stdout) == gateway.models[0]


def test_a_load_that_outlasts_the_gateway_s_patience_is_waited_for(
    conductor: Invoke, gateway: FakeGateway
) -> None:
    gateway.busy = 2
    result = conductor("load", "conversational_chat", "--port", str(gateway.port))
    assert (result.exit_code, len(gateway.calls)) == (0, 3)


def test_a_load_tells_each_step_on_a_line(
    conductor: Invoke, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_progress, "LOOK_S", 0.01)
    steps: Iterator[dict[str, Any]] = iter(
        [
            {"phase": "wait", "position": 2, "queue": 3},
            {"phase": "download", "progress": 0.41},
            {"phase": "download", "progress": 0.44},
            {"phase": "start"},
        ]
    )
    gateway.may_load.clear()

    def next_step(category: str) -> dict[str, Any]:
        if (given := next(steps, None)) is None:
            gateway.may_load.set()
            return model()
        return model(state="LOADING", **given)

    gateway.row = next_step
    result = conductor("load", "conversational_chat", "--port", str(gateway.port))
    said = [line.rpartition(" (")[0] for line in result.stderr.splitlines()]
    assert said == [
        "conversational_chat: queued 2 of 3 for memory",
        "conversational_chat: download 40%",
        "conversational_chat: start",
    ]
    assert result.stdout == "conversational_chat is READY\n"


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_ctrl_c_ends_the_waiting_and_not_the_work(
    conductor: Invoke, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(GatewayClient, verb, interrupt)
    result = conductor(verb, "conversational_chat", "--port", str(gateway.port))
    assert result.exit_code == 130
    assert result.stderr == f"the {verb} continues in the gateway; see: conductor ps\n"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (model(state="UNLOADING", in_flight=0), "unloading"),
        (model(state="UNLOADING", in_flight=1), "unloading after 1 answer"),
        (model(state="UNLOADING", in_flight=2), "unloading after 2 answers"),
        (model(state="READY"), "ready"),
        (model(state="LOADING", phase=None), "loading"),
    ],
)
def test_a_step_is_told_in_words(row: dict[str, Any], words: str) -> None:
    assert load_progress.step(row) == words


def test_progress_on_a_terminal_is_a_line_that_goes_away(gateway: FakeGateway, tmp_path: Path) -> None:
    gateway.models = [model(state="LOADING", phase="convert", progress=0.41)]
    gateway.may_load.clear()
    outside, inside = pty.openpty()
    command = [sys.executable, "-m", "conductor.cli", "load", "conversational_chat", "--port"]
    with subprocess.Popen(
        [*command, str(gateway.port)],
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=inside,
        stderr=inside,
    ) as process:
        os.close(inside)
        with open(outside, "rb", buffering=0) as terminal:
            said = b""
            while b"41%" not in said:
                said += terminal.read(1000)
            gateway.may_load.set()
            while b"is LOADING" not in said:
                said += terminal.read(1000)
        assert process.wait(30) == 0
    assert b"conversational_chat: convert" in said
    assert said.rpartition(b"\x1b[2K")[2].strip() == b"conversational_chat is LOADING"


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
