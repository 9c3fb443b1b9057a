"""`conductor sessions`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conductor.command_line import Invoke
from tests.conductor.fake_gateway import FakeGateway


def session(name: str, **changes: Any) -> dict[str, Any]:
    """One of `GET /sessions`."""
    times = {"created": 1_700_000_000.0, "updated": 1_700_000_100.0}
    shown = {"id": name, "title": f"About {name}", "persona": None, "category": "conversational_chat"}
    return {**shown, **times, "turn_count": 2, **changes}


@pytest.fixture
def port(gateway: FakeGateway) -> str:
    gateway.sessions = [session("a1"), session("b2")]
    return str(gateway.port)


def test_list_shows_sessions_in_the_gateways_order(
    conductor: Invoke, gateway: FakeGateway, port: str
) -> None:
    head, *lines = conductor("sessions", "list", "-n", "7", "--port", port).stdout.splitlines()
    assert head.split() == ["ID", "USED", "TURNS", "CATEGORY", "TITLE"]
    assert [(line.split()[0], line.split()[3]) for line in lines] == [("a1", "2"), ("b2", "2")]
    assert "About a1" in lines[0]
    assert gateway.calls == ["/sessions?limit=7"]


def test_lists_and_sessions_are_json_on_request(conductor: Invoke, port: str) -> None:
    listed = json.loads(conductor("sessions", "list", "--json", "--port", port).stdout)
    assert [one["id"] for one in listed["sessions"]] == ["a1", "b2"]
    assert json.loads(conductor("sessions", "show", "a1", "--json", "--port", port).stdout)["id"] == "a1"


def test_show_prints_what_was_said_and_what_was_cut_off(
    conductor: Invoke, gateway: FakeGateway, port: str
) -> None:
    said = [
        {"user": "Hi", "assistant": "Hello", "state": "complete"},
        {"user": "And?", "assistant": "Well", "state": "cancelled"},
    ]
    gateway.sessions = [session("a1", turns=said)]
    lines = conductor("sessions", "show", "a1", "--port", port).stdout.splitlines()
    assert lines[0].startswith("About a1 (conversational_chat, 2023-11-")
    assert lines[1:] == ["", ">>> Hi", "Hello", "", ">>> And?", "Well (cancelled)"]


def test_a_session_is_renamed_and_deleted(conductor: Invoke, gateway: FakeGateway, port: str) -> None:
    assert (
        conductor("sessions", "rename", "a1", "New words", "--port", port).stdout
        == "a1 is now titled New words\n"
    )
    assert conductor("sessions", "delete", "a1", "--port", port).stdout == "a1 is deleted\n"
    assert gateway.calls == ["PATCH /sessions/a1", "DELETE /sessions/a1"]


@pytest.mark.parametrize("command", [("show", "x/y"), ("rename", "x", "t"), ("delete", "x")])
def test_an_unknown_session_is_one_line(conductor: Invoke, port: str, command: tuple[str, ...]) -> None:
    result = conductor("sessions", *command, "--port", port)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


def test_an_empty_title_is_refused_at_once(conductor: Invoke, gateway: FakeGateway, port: str) -> None:
    assert conductor("sessions", "rename", "a1", " ", "--port", port).exit_code == 2
    assert gateway.calls == []
