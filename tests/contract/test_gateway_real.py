"""The gateway over the real TorchServe and demo model, with all kinds of kills that it must survive."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx2
import orjson
import psutil
import pytest

from conductor_core.processes import is_alive
from tests.serving import Serving, serving
from tests.sure import CONVERSATION
from tests.torchserve_process import short_folder

pytestmark = pytest.mark.e2e

LONG = {"prompt": "Tell me a long story about the sea.", "max_tokens": 2000, "seed": 7}


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    with short_folder() as folder, serving(folder / "state") as server:
        server.wait_until_ready()
        yield server


async def chat_set(client: httpx2.AsyncClient) -> dict[str, Any]:
    return dict((await client.get("/models/conversational_chat")).json())


async def test_an_answer_and_its_stream_agree(served: Serving) -> None:
    body = {"messages": CONVERSATION, "max_tokens": 24, "temperature": 0}
    async with served.async_client() as client:
        whole = (await client.post("/generate", json=body)).json()
        stream = (await client.post("/generate/stream", json=body)).text
    events = [orjson.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    assert "".join(event.get("delta", "") for event in events) == whole["text"]
    assert events[-1]["usage"] == whole["usage"]
    assert stream.rstrip().endswith("data: [DONE]")


async def test_thirty_two_requests_at_once_are_answered(served: Serving) -> None:
    body = {"prompt": "Name a colour.", "max_tokens": 8, "seed": 1}
    async with served.async_client() as client:
        answers = await asyncio.gather(*(client.post("/generate", json=body) for _ in range(32)))
        assert {answer.status_code for answer in answers} == {200}
        assert (await chat_set(client))["in_flight"] == 0


async def test_a_client_that_leaves_stops_the_generation(served: Serving) -> None:
    async with served.async_client() as client:
        async with client.stream("POST", "/generate/stream", json=LONG) as response:
            await anext(response.aiter_lines())
        pid = (await chat_set(client))["workers"][0]["pid"]
        async with served.worker_client(pid) as worker, asyncio.timeout(5):
            while (await worker.get("/health")).json()["running"]:
                await asyncio.sleep(0.05)
        assert (await chat_set(client))["in_flight"] == 0


async def test_a_killed_worker_ends_its_stream_with_an_error_and_the_next_request_succeeds(
    served: Serving,
) -> None:
    async with served.async_client() as client:
        async with client.stream("POST", "/generate/stream", json=LONG) as response:
            lines = response.aiter_lines()
            await anext(lines)
            os.kill((await chat_set(client))["workers"][0]["pid"], signal.SIGKILL)
            async with asyncio.timeout(5):
                rest = [line async for line in lines if line]
        assert orjson.loads(rest[-1][6:])["error"]["code"] == "worker_died"
        assert "data: [DONE]" not in rest
        answer = await client.post("/generate", json={"prompt": "Hi", "max_tokens": 4})
        assert answer.status_code == 200


async def test_a_killed_torchserve_is_started_again_with_its_archives(served: Serving) -> None:
    before = served.torchserve()
    async with served.async_client() as client:
        before[0].kill()
        answer = await client.post("/generate", json={"prompt": "Hi", "max_tokens": 4})
        while answer.status_code == 503:  # it may have been sent before the kill was noticed
            answer = await client.post("/generate", json={"prompt": "Hi", "max_tokens": 4})
    assert answer.status_code == 200
    assert not set(before) & set(served.torchserve())


async def test_only_the_gateways_port_is_open(served: Serving) -> None:
    for process in served.torchserve():
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in ("127.0.0.1", "::ffff:127.0.0.1", "::1")
                assert connection.laddr.port not in (7070, 7071, 8080, 8081, 8082)


async def test_unload_ends_the_process_and_the_next_request_loads_it(served: Serving) -> None:
    async with served.async_client() as client:
        pid = (await chat_set(client))["workers"][0]["pid"]
        reply = await client.post("/admin/models/conversational_chat/unload?force=true")
        assert reply.json()["state"] == "UNAVAILABLE"
        assert not is_alive(pid)
        assert (await client.post("/generate", json={"prompt": "Hi", "max_tokens": 4})).status_code == 200


def test_without_models_nothing_is_started() -> None:
    with short_folder() as folder, serving(folder / "state", "--skip-model-loading") as server:
        with server.client() as client:
            answer = client.post("/generate", json={"prompt": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading_skipped")
        assert [process.pid for process in server.processes()] == [server.process.pid]
