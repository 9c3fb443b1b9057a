"""The processes of a bench: the light client on a real port, children that die, and the measured values."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conductor.bench.children import BenchChild, ServedProcesses
from conductor.bench.target import CLIENT, SYSTEM
from conductor.errors import CommandError
from tests.conductor.command_line import Invoke
from tests.conductor.fake_gateway import FakeGateway, answer, data

MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "hi"}]


@pytest.fixture
def client(gateway: FakeGateway, tmp_path: Path) -> Iterator[BenchChild]:
    address = {"host": "127.0.0.1", "port": gateway.port, "headers": {"authorization": "Bearer x"}}
    setup = {**address, "category": "conversational_chat"}
    with open(tmp_path / "client.log", "wb") as log, BenchChild("client", CLIENT, setup, log) as child:
        child.ready()
        yield child


def test_the_client_asks_greedily_and_notes_every_piece(client: BenchChild, gateway: FakeGateway) -> None:
    gateway.reply = lambda body: [": loading 1%\n\n", *answer("a", "b", "c")]
    result = client.turn([MESSAGES, MESSAGES], 9)
    for stream in result["streams"]:
        assert (stream["prompt_tokens"], stream["tokens"], len(stream["times"])) == (7, 3, 3)
        assert stream["start"] <= stream["times"][0] <= stream["times"][-1]
    assert result["cpu_s"] >= 0
    asked = {"messages": MESSAGES, "category": "conversational_chat", "max_tokens": 9, "temperature": 0}
    assert gateway.bodies == [asked, asked]


def test_the_client_serves_one_turn_after_another(client: BenchChild, gateway: FakeGateway) -> None:
    assert [len(client.turn([MESSAGES] * n, 9)["streams"]) for n in (1, 4)] == [1, 4]


@pytest.mark.parametrize(
    "lines", [[data({"delta": "a"}), data({"error": {"message": "the worker died"}})], []]
)
def test_a_failed_answer_is_an_error_of_its_stream(
    client: BenchChild, gateway: FakeGateway, lines: list[str]
) -> None:
    gateway.reply = lambda body: lines
    assert client.turn([MESSAGES], 9)["streams"][0]["error"]


def test_a_stream_that_only_stops_is_an_error(client: BenchChild, gateway: FakeGateway) -> None:
    gateway.reply = lambda body: [data({"delta": "a"})]
    assert client.turn([MESSAGES], 9)["streams"][0]["error"]


def test_a_refusal_is_an_error_with_the_gateway_s_words(client: BenchChild, gateway: FakeGateway) -> None:
    gateway.refusal = (503, "the model is not there")
    assert "the model is not there" in client.turn([MESSAGES], 9)["streams"][0]["error"]


def test_a_child_that_dies_is_told_with_its_last_line(tmp_path: Path) -> None:
    script = tmp_path / "dies.py"
    script.write_text("import sys\nsys.stdin.readline()\nsys.exit('no such model')\n")
    with (
        open(tmp_path / "child.log", "wb") as log,
        BenchChild("direct", script, {}, log) as child,
        pytest.raises(CommandError, match="the direct process ended with 1: no such model"),
    ):
        child.ready()


def test_processes_outside_torchserve_have_no_gateway_and_no_jvm() -> None:
    used = ServedProcesses([os.getpid()]).cpu_seconds()
    assert used["worker"] > 0
    assert (used["gateway"], used["jvm"]) == (0, 0)


@pytest.mark.parametrize("streams", ["0", "1,", "a", "1;8"])
def test_streams_that_are_no_numbers_are_refused(conductor: Invoke, streams: str) -> None:
    result = conductor("bench", "--streams", streams)
    assert result.exit_code == 2
    assert "expected numbers such as 1,8,32" in result.stderr


def test_without_a_gateway_bench_says_how_to_start_one(conductor: Invoke) -> None:
    result = conductor("bench", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "start it with: conductor serve" in result.stderr


def test_an_archive_that_is_elsewhere_is_told(conductor: Invoke, gateway: FakeGateway) -> None:
    result: Any = conductor("bench", "--url", f"http://127.0.0.1:{gateway.port}")
    assert result.exit_code == 1
    assert "give the gateway's folder with --state-dir" in result.stderr
