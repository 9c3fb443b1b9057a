"""A client that does not read is disconnected; until then it takes limited memory and delays nobody."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from conductor_admin.http.protocol import BoundedProtocol
from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import Rig
from tests.conductor_admin.openai_calls import chat
from tests.conductor_admin.raw_http import request_of, rest_of, unread

CHAT = "conversational_chat"
MB = 2**20
PIECE = "x" * 10_000
WHOLE = 100 * MB
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "generate/stream": ("/generate/stream", {"prompt": "flood"}),
    "a session": ("/generate/stream", {"prompt": "flood", "session": True}),
    "predictions": (f"/predictions/{CHAT}", {"prompt": "flood", "stream": True}),
    "chat": ("/v1/chat/completions", chat(stream=True)),
    "three choices": ("/v1/chat/completions", chat(stream=True, n=3)),
    "completions": ("/v1/completions", {"model": CHAT, "prompt": "flood", "stream": True}),
    "responses": ("/v1/responses", {"model": CHAT, "input": "flood", "stream": True}),
}


class Flood:
    """A worker that writes WHOLE bytes, but only three words for legal analysis."""

    def __init__(self) -> None:
        self.written = 0
        self.ended = asyncio.Event()

    async def script(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        if request["engine"] == "legal_analysis":
            for word in ("I ", "read ", "on"):
                yield {"delta": word}
            yield done("I read on")
            return
        try:
            for _ in range(WHOLE // len(PIECE)):
                yield {"delta": PIECE}
                self.written += len(PIECE)
                await asyncio.sleep(0)  # uvicorn accepts data for a closed connection without a pause
            yield done("the end")
        finally:
            self.ended.set()


@pytest.fixture
def flood(rig: Rig) -> Flood:
    flood = Flood()
    rig.torchserve.script = flood.script
    return flood


@pytest.mark.parametrize("way", WAYS)
async def test_who_reads_nothing_is_cut_and_costs_bounded_memory(
    rig: Rig, flood: Flood, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(BoundedProtocol, "send_s", 0.5)
    neighbour = {"prompt": "x", "category": "legal_analysis"}
    await rig.client.post("/generate", json=neighbour)
    tracemalloc.start()
    try:
        with unread(rig.url, request_of(*WAYS[way])) as client:
            await rig.until(lambda: flood.written > 0)
            answer = await rig.client.post("/generate", json=neighbour)
            assert answer.json()["text"] == "I read on"
            async with asyncio.timeout(10):
                await flood.ended.wait()
            await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 0)
            assert b"[DONE]" not in await rest_of(client)
        assert tracemalloc.get_traced_memory()[1] < 30 * MB
    finally:
        tracemalloc.stop()
    assert flood.written < WHOLE / 3


async def test_of_requests_in_a_row_the_running_one_ends_with_the_connection(rig: Rig, flood: Flood) -> None:
    request = request_of("/generate/stream", {"prompt": "flood"})
    with unread(rig.url, request * 3):
        await rig.until(lambda: flood.written > 0)
    async with asyncio.timeout(10):
        await flood.ended.wait()
    await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 0)
    assert flood.written < WHOLE


async def test_who_reads_on_gets_all_of_it(rig: Rig, flood: Flood, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "send_s", 0.5)
    async with rig.client.stream("POST", "/generate/stream", json={"prompt": "flood"}) as response:
        size = 0
        async for piece in response.aiter_raw():
            size += len(piece)
    assert size > WHOLE
    assert piece.endswith(b"[DONE]\n\n")


async def test_a_closed_connection_with_unread_bytes_is_cut(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain close waits for the reader for ever; here it follows one large answer."""
    monkeypatch.setattr(BoundedProtocol, "send_s", 0.3)

    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield done("x" * (20 * MB))

    rig.torchserve.script = script
    with unread(rig.url, request_of("/generate", {"prompt": "x"}, connection="close")) as client:
        await until_reset(client)


async def until_reset(client: socket.socket) -> None:
    """Wait, without reading, until the server has aborted the connection."""
    async with asyncio.timeout(5):
        while not client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            await asyncio.sleep(0.02)
