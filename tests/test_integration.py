"""The main use case: SETTINGS.md of this repository, the real TorchServe and the real model, over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from conductor_core.processes import is_alive
from tests.serving import Serving, serving
from tests.sure import CONVERSATION

pytestmark = pytest.mark.e2e

GREEDY = {"temperature": 0.0, "max_tokens": 24}
LONG = {"prompt": "Write a very long story about a dragon.", "max_tokens": 2000, "temperature": 1.0}
SECRET = "the prompt that no log may hold 7391"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("main") / "state") as server:
        server.wait_until_ready()
        yield server


@pytest.fixture
def client(gateway: Serving) -> Iterator[httpx2.Client]:
    with gateway.client() as made:
        yield made


def events(lines: Iterator[str]) -> list[str]:
    """Data of server-sent events, in order."""
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def idle(gateway: Serving) -> dict[str, Any]:
    """Waits until gateway and worker have no request in progress, and returns the chat model."""
    return gateway.wait_for_model("conversational_chat", in_flight=0, state="READY")


def test_generate_answers_with_every_field(client: httpx2.Client) -> None:
    answer = client.post("/generate", json={"prompt": "Why is the sky blue?", **GREEDY})
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() >= {"id", "category", "model", "text", "finish_reason", "usage", "timings", "findings"}
    assert body["category"] == "conversational_chat"
    assert body["text"]
    assert 0 < body["usage"]["completion_tokens"] <= GREEDY["max_tokens"]
    assert answer.headers["x-request-id"] == body["id"]


def test_a_stream_is_pieces_then_one_record_then_done(client: httpx2.Client) -> None:
    question = {"messages": CONVERSATION, **GREEDY}
    with client.stream("POST", "/generate/stream", json=question) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        *records, done = events(stream.iter_lines())
    *deltas, last = map(json.loads, records)
    assert done == "[DONE]"
    assert len(deltas) > 1
    whole = client.post("/generate", json=question).json()
    assert "".join(delta["delta"] for delta in deltas) == whole["text"]
    assert last.keys() == whole.keys() - {"text"}


def test_stream_true_streams_from_generate_as_well(client: httpx2.Client) -> None:
    with client.stream("POST", "/generate", json={"prompt": "Hi", "stream": True, **GREEDY}) as stream:
        assert events(stream.iter_lines())[-1] == "[DONE]"


def test_every_category_that_writes_is_answered_by_the_one_loaded_set(client: httpx2.Client) -> None:
    models = client.get("/models").json()["models"]
    assert len(models) > 10
    assert {m["set"] for m in models if m["engine"] != "embedding"} == {"conversational_chat"}
    body = {"category": "translation", "prompt": "Say hi", **GREEDY}
    assert client.post("/generate", json=body).json()["category"] == "translation"


def test_the_memory_of_a_loaded_model_is_measured(gateway: Serving) -> None:
    memory = idle(gateway)["memory"]
    assert memory["declared"] > 0
    assert memory["measured"] > 100 * 2**20


def test_torchserve_clients_use_the_gateway(client: httpx2.Client) -> None:
    assert client.get("/ping").json() == {"status": "Healthy"}
    body = {"prompt": "Hi", **GREEDY}
    assert client.post("/predictions/conversational_chat", json=body).json()["text"]
    version = client.get("/models/conversational_chat").json()["version"]
    with_engine = client.post(f"/predictions/conversational_chat/{version}/general_reasoning", json=body)
    assert with_engine.json()["text"]


def test_curl_without_a_content_type_is_answered(gateway: Serving) -> None:
    curl = ["curl", "-sS", f"{gateway.url}/generate", "-d", json.dumps({"prompt": "Hi", **GREEDY})]
    answer = subprocess.run(curl, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(answer.stdout)["text"]


def test_an_unknown_category_is_404_with_close_names(client: httpx2.Client) -> None:
    answer = client.post("/generate", json={"prompt": "Hi", "category": "conversational_chta"})
    assert answer.status_code == 404
    assert "conversational_chat" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": "%b", "temperature": NaN}',
        b'{"prompt": "%b", "temperature": Infinity}',
        b'{"prompt": "%b", "temperature": 1e400}',
        b'{"prompt": "%b", "temperature": "0.5"}',
        b'{"prompt": "%b", "temperature": true}',
        b'{"prompt": "%b", "max_tokens": 100000000000000000000}',
        b'{"prompt": "%b \\ud800"}',
        b'{"prompt": "%b \xff"}',
        b'{"prompt": "%b", "options": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"prompt": "%b", "frobnicate": 1}',
        b'{"prompt": "%b", "messages": []}',
        b'{"prompt": 7}',
        b"[]",
        b"null",
        b"",
        b"{",
    ],
    ids=lambda body: body[:40].decode(errors="replace"),
)
def test_an_invalid_body_is_400_in_the_one_shape_and_never_echoed(client: httpx2.Client, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    raw = body.replace(b"%b", SECRET.encode())
    for path in ("/generate", "/generate/stream", "/predictions/conversational_chat"):
        answer = client.post(path, content=raw, headers=headers)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
        assert SECRET not in answer.text


def test_an_overlong_prompt_is_400_with_both_numbers(client: httpx2.Client) -> None:
    for path in ("/generate", "/generate/stream"):
        answer = client.post(path, json={"prompt": "a b c " * 5000})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "context_length_exceeded"
        assert "8192" in error["message"]


async def test_thirty_two_requests_at_once_are_all_answered(gateway: Serving) -> None:
    async with gateway.async_client() as client:
        bodies = [{"prompt": f"Count to {n}.", "max_tokens": 16} for n in range(32)]
        answers = await asyncio.gather(*(client.post("/generate", json=body) for body in bodies))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 32
    idle(gateway)


def test_a_client_that_leaves_stops_the_generation(gateway: Serving) -> None:
    with gateway.client() as client, client.stream("POST", "/generate/stream", json=LONG) as stream:
        lines = stream.iter_lines()  # kept in a variable, because the stream ends with its iterator
        next(lines)
        assert gateway.model()["in_flight"] == 1
    model = idle(gateway)
    worker = httpx2.HTTPTransport(uds=str(gateway.state / "run" / f"{model['workers'][0]['pid']}.sock"))
    with httpx2.Client(transport=worker, base_url="http://worker") as inside:
        deadline = time.monotonic() + 30
        while (health := inside.get("/health").json())["running"] and time.monotonic() < deadline:
            time.sleep(0.05)
    assert (health["running"], health["waiting"]) == (0, 0)


def test_a_killed_worker_is_an_error_record_at_once_and_the_next_request_succeeds(gateway: Serving) -> None:
    (worker,) = idle(gateway)["workers"]
    with gateway.client() as client:
        with client.stream("POST", "/generate/stream", json=LONG) as stream:
            lines = stream.iter_lines()
            next(lines)
            os.kill(worker["pid"], signal.SIGKILL)
            *_, last = events(lines)
        assert json.loads(last)["error"]["code"] == "worker_died"
        after = client.post("/generate", json={"prompt": "Still there?", **GREEDY})
    assert after.status_code == 200
    assert after.json()["text"]
    assert idle(gateway)["workers"][0]["pid"] != worker["pid"]


def test_stats_count_what_was_answered(client: httpx2.Client) -> None:
    before = client.get("/stats").json()["categories"]["conversational_chat"]
    client.post("/generate", json={"prompt": "Hi", **GREEDY})
    after = client.get("/stats").json()["categories"]["conversational_chat"]
    assert after["generations"] == before["generations"] + 1
    assert after["completion_tokens"] > before["completion_tokens"]


def test_an_answer_is_counted_and_traced(client: httpx2.Client) -> None:
    asked = {"model": "conversational_chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}
    counted = 'conductor_request_success_total{finished_reason="length",model_name="conversational_chat"}'

    def total() -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(counted))

    before = total()
    answer = client.post("/v1/chat/completions", json=asked).json()
    trace = client.get(f"/requests/{answer['id']}").json()
    assert total() == before + 1
    assert trace["usage"]["completion_tokens"] == answer["usage"]["completion_tokens"] == 8
    assert (trace["state"], trace["finish_reason"]) == ("succeeded", "length")
    assert 0 < trace["first_token_s"] <= trace["seconds"]
    assert trace["tokens_per_second"] > 0


def test_health_is_live_and_ready(client: httpx2.Client) -> None:
    for path in ("/health", "/health/live", "/health/ready"):
        assert client.get(path).status_code == 200


def test_conductor_run_streams_an_answer(gateway: Serving) -> None:
    command = [sys.executable, "-m", "conductor.cli", "run", "--verbose", "Say hello."]
    environment = {**os.environ, "CONDUCTOR_STATE_DIR": str(gateway.state)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=True)
    assert done.stdout.strip()
    assert "tokens" in done.stderr


def test_logs_are_json_with_a_request_id_and_without_the_prompt(
    gateway: Serving, client: httpx2.Client
) -> None:
    answer = client.post(
        "/generate", json={"prompt": SECRET, **GREEDY}, headers={"x-request-id": "log-test-1"}
    )
    assert answer.headers["x-request-id"] == "log-test-1"
    lines = (gateway.state / "logs" / "gateway.log").read_text(encoding="utf-8").splitlines()
    assert any(json.loads(line).get("request_id") == "log-test-1" for line in lines)
    for log in (gateway.state / "logs").iterdir():
        assert SECRET not in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_process_behind(tmp_path: Path, number: int) -> None:
    with serving(tmp_path / "state") as server, server.client() as client:
        server.wait_until_ready()
        assert len(server.processes()) >= 3
        with client.stream("POST", "/generate/stream", json={**LONG, "max_tokens": 7000}) as stream:
            lines = stream.iter_lines()
            next(lines)
            server.stop_in_order(number)
            told = events(lines)
    assert json.loads(told[-1])["error"]["code"] == "shutting_down"
    assert not (tmp_path / "state" / "run.json").exists()


def test_a_killed_gateway_is_replaced_by_the_next_one(tmp_path: Path) -> None:
    with serving(tmp_path / "state") as first:
        first.wait_until_ready()
        left = first.processes()[1:]
        first.stop(signal.SIGKILL)  # its child processes may end by themselves, but need not
    with serving(tmp_path / "state") as second:
        second.wait_until_ready()
        assert not [process for process in left if is_alive(process.pid)]
        with second.client() as client:
            assert client.post("/generate", json={"prompt": "Hi", **GREEDY}).status_code == 200


def test_a_second_gateway_on_the_same_state_refuses_to_start(gateway: Serving) -> None:
    with serving(gateway.state) as second:
        assert second.process.wait(30) == 1
    assert str(gateway.process.pid) in second.log.read_text(encoding="utf-8")
