"""Long texts beside a stream on the real server: the stream goes on, and no event loop is blocked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.faults import CHAT, write_settings
from tests.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SENTENCE = "He had 3.5 umbrellas, i.e. too many, at 5 p.m. on Monday! "
LINE = SENTENCE * (60_000 // len(SENTENCE))
"""One of 195 kB takes a minute; `tests/handlers/test_long_texts.py` splits that one."""
TOOL = {"type": "function", "function": {"name": "look", "description": "x " * 500_000}}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("long")
    with serving(folder / "state", settings=write_settings(folder)) as server:
        server.wait_until_ready()
        yield server


class Stream(threading.Thread):
    """A neighbour's stream, which counts its events."""

    def __init__(self, gateway: Serving) -> None:
        super().__init__()
        self.events = 0
        self.begun = threading.Event()
        self.enough = threading.Event()
        self._gateway = gateway

    def run(self) -> None:
        body = {"prompt": "Count.", "max_tokens": 4000, "temperature": 0, "category": CHAT}
        with self._gateway.client() as client, client.stream("POST", "/generate/stream", json=body) as answer:
            for line in answer.iter_lines():
                self.events += line.startswith("data: ")
                self.begun.set()
                if self.enough.is_set():
                    return


@pytest.fixture
def neighbour(gateway: Serving) -> Iterator[Stream]:
    stream = Stream(gateway)
    stream.start()
    assert stream.begun.wait(120)
    yield stream
    stream.enough.set()
    stream.join(120)


def test_a_neighbour_gets_tokens_while_a_long_line_is_split(gateway: Serving, neighbour: Stream) -> None:
    body: dict[str, Any] = {"engine": "translation", "prompt": LINE, "max_tokens": 40, "category": CHAT}
    body["options"] = {"source": "en", "target": "de"}
    before = neighbour.events
    with gateway.client() as client, client.stream("POST", "/generate/stream", json=body) as answer:
        assert answer.status_code == 200
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert "error" not in json.loads(lines[-2].removeprefix("data: "))
    assert neighbour.is_alive()
    assert neighbour.events > before


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL], "model": CHAT},
        {"messages": [{"role": "user", "content": "A word. " * 50_000}], "model": CHAT},
    ],
    ids=["a tool description of a megabyte", "a prompt of 400 kB"],
)
def test_what_is_too_long_is_a_400_and_the_neighbour_goes_on(
    gateway: Serving, neighbour: Stream, body: dict[str, Any]
) -> None:
    before = neighbour.events
    with gateway.client() as client:
        answer = client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert neighbour.is_alive()
    assert neighbour.events >= before
