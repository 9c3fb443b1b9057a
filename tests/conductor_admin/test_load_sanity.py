"""Two hundred streams at a time, some of them dropped: afterwards no object or counter is left over."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import psutil

from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import MakeRig, Rig
from tests.conductor_admin.openai_calls import chat

CHAT = "conversational_chat"
STREAMS = 200


async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    for _ in range(20):
        yield {"delta": "x" * 100}
        await asyncio.sleep(0)
    yield done("x" * 2000)


async def ask(client: httpx2.AsyncClient, number: int) -> None:
    """Read one stream to its end; drop every fifth at its first line."""
    path, body = [
        ("/generate/stream", {"prompt": "x"}),
        ("/v1/chat/completions", chat(stream=True)),
        ("/generate", {"prompt": "x"}),
    ][number % 3]
    async with client.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if number % 5 == 0 and line:
                return


async def one_round(rig: Rig) -> None:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx2.AsyncClient(base_url=rig.url, timeout=60, limits=limits, trust_env=False) as client:
        await asyncio.gather(*(ask(client, number) for number in range(STREAMS)))
    await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 0)


async def test_two_hundred_streams_leave_nothing_behind(make_rig: MakeRig) -> None:
    async with make_rig(queue_size=512) as rig:
        rig.torchserve.script = script
        await one_round(rig)
        await measured(rig)


async def measured(rig: Rig) -> None:
    """Run one more round; afterwards the counts are the same as before."""
    process = psutil.Process()
    tasks, files = len(asyncio.all_tasks()), process.num_fds()
    before = objects(rig)
    await one_round(rig)
    await rig.until(lambda: len(asyncio.all_tasks()) <= tasks)
    await rig.until(lambda: process.num_fds() <= files)
    # A trace of each request is kept for a while, which is one object or two.
    assert objects(rig) - before < 3 * STREAMS
    figures = (await rig.client.get("/stats")).json()["categories"][CHAT]
    assert (figures["queued"], figures["errors"]) == (0, 0)
    model = (await rig.client.get(f"/models/{CHAT}")).json()
    assert model["in_flight"] == 0
    assert [worker["in_flight"] for worker in model["workers"]] == [0]


def objects(rig: Rig) -> int:
    """Number of live container objects, without those that the fake worker keeps."""
    for worker in rig.torchserve.workers(CHAT):
        worker.requests.clear()
    gc.collect()
    return len(gc.get_objects())
