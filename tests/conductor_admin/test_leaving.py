"""A client that leaves ends its own generation, on every route and at every moment, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import Rig
from tests.conductor_admin.openai_calls import chat

CHAT = "conversational_chat"
RESPONSES = {"model": CHAT, "input": "count"}
WAYS: dict[str, tuple[str, dict[str, Any], int]] = {
    "generate": ("/generate", {"prompt": "x"}, 1),
    "generate, streamed by its body": ("/generate", {"prompt": "x", "stream": True}, 1),
    "generate/stream": ("/generate/stream", {"prompt": "x"}, 1),
    "a session": ("/generate/stream", {"prompt": "x", "session": True}, 1),
    "predictions": (f"/predictions/{CHAT}", {"prompt": "x"}, 1),
    "predictions, streamed": (f"/predictions/{CHAT}", {"prompt": "x", "stream": True}, 1),
    "chat": ("/v1/chat/completions", chat(), 1),
    "chat, streamed": ("/v1/chat/completions", chat(stream=True), 1),
    "four choices": ("/v1/chat/completions", chat(n=4), 4),
    "four choices, streamed": ("/v1/chat/completions", chat(n=4, stream=True), 4),
    "completions": ("/v1/completions", {"model": CHAT, "prompt": ["x", "y"]}, 2),
    "completions, streamed": ("/v1/completions", {"model": CHAT, "prompt": ["x", "y"], "stream": True}, 2),
    "responses": ("/v1/responses", RESPONSES, 1),
    "responses, streamed": ("/v1/responses", {**RESPONSES, "stream": True}, 1),
}
"""Path, body and number of generations of each way to ask."""


@dataclass
class Workshop:
    """A script whose generations send a word for each permit; the neighbour has `permits` of its own."""

    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    said: int = 0
    neighbour: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def script(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        if request["engine"] == "legal_analysis":
            for word in ("I ", "am ", "still ", "here"):
                await self.neighbour.acquire()
                yield {"delta": word}
            yield done("I am still here")
            return
        self.begun.append(request["id"])
        try:
            yield {"delta": "one"}
            self.said += 1
            await asyncio.Event().wait()
        finally:
            self.ended.append(request["id"])


@contextlib.asynccontextmanager
async def asking(rig: Rig, path: str, body: dict[str, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """Send a request; its connection is dropped at the end of the block."""
    task = asyncio.create_task(rig.client.post(path, json=body))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.mark.parametrize("way", WAYS)
async def test_it_ends_its_generations_and_hurts_no_neighbour(rig: Rig, way: str) -> None:
    path, body, generations = WAYS[way]
    work = Workshop()
    rig.torchserve.script = work.script
    neighbour = asyncio.create_task(
        rig.client.post("/generate", json={"prompt": "x", "category": "legal_analysis"})
    )
    await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 1)
    work.neighbour.release()
    async with asking(rig, path, body) as leaving:
        await rig.until(lambda: work.said == generations)
        assert not leaving.done()
    await rig.until(lambda: len(work.ended) == generations)
    assert sorted(work.ended) == sorted(work.begun)
    await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 1)
    for _ in range(3):
        work.neighbour.release()
    async with asyncio.timeout(5):
        assert (await neighbour).json()["text"] == "I am still here"
    assert rig.lifecycle.view(CHAT).in_flight == 0


@pytest.mark.parametrize("way", WAYS)
async def test_it_leaves_the_queue_of_a_load_which_goes_on(rig: Rig, way: str) -> None:
    path, body, generations = WAYS[way]
    rig.torchserve.may_load.clear()
    async with asking(rig, path, body):
        await rig.until(lambda: queued(rig) == generations)
    await rig.until(lambda: queued(rig) == 0)
    rig.torchserve.may_load.set()
    await rig.until(lambda: rig.lifecycle.view(CHAT).state == "READY")
    assert rig.torchserve.workers(CHAT)[0].requests == []
    assert rig.lifecycle.view(CHAT).in_flight == 0


def queued(rig: Rig) -> int:
    return int(rig.gateway.stats.categories().get(CHAT, {"queued": 0})["queued"])


async def test_a_closed_half_of_a_connection_counts_as_leaving(rig: Rig) -> None:
    work = Workshop()
    rig.torchserve.script = work.script
    reader, writer = await asyncio.open_connection("127.0.0.1", int(rig.url.rpartition(":")[2]))
    body = b'{"prompt": "x"}'
    writer.write(
        b"POST /generate HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )
    await rig.until(lambda: work.said == 1)
    writer.write_eof()
    await rig.until(lambda: len(work.ended) == 1)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_half_of_a_batch_leaves_round_after_round(rig: Rig) -> None:
    """Twenty rounds of eight streams, four of which are dropped: the others lose nothing."""
    waiting = asyncio.Event()

    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": f"{request['prompt']} "}
        await waiting.wait()
        for word in ("is ", "here"):
            yield {"delta": word}
            await asyncio.sleep(0)
        yield done(f"{request['prompt']} is here")

    rig.torchserve.script = script
    for round_ in range(20):
        waiting.clear()
        tasks = [
            asyncio.create_task(rig.client.post("/generate", json={"prompt": f"{round_}-{n}"}))
            for n in range(8)
        ]
        await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 8)
        for task in tasks[round_ % 2 :: 2]:
            task.cancel()
        await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 4)
        waiting.set()
        for number in range(8):
            if number % 2 != round_ % 2:
                assert (await tasks[number]).json()["text"] == f"{round_}-{number} is here"
    await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 0)
