"""Comments keep an idle stream alive: in a queue, in a load, before its first token and between two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from conductor_admin.api import responder
from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import Rig
from tests.conductor_admin.openai_calls import chat

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "generate/stream": ("/generate/stream", {"prompt": "x"}),
    "chat": ("/v1/chat/completions", chat(stream=True)),
    "choices": ("/v1/chat/completions", chat(stream=True, n=2)),
    "completions": ("/v1/completions", {"model": "conversational_chat", "prompt": "x", "stream": True}),
    "responses": ("/v1/responses", {"model": "conversational_chat", "input": "x", "stream": True}),
}


class Hesitant:
    """A worker that waits for `first` before its first token and for `second` before its next one."""

    def __init__(self) -> None:
        self.first, self.second = asyncio.Event(), asyncio.Event()

    async def script(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        await self.first.wait()
        yield {"delta": "one"}
        await self.second.wait()
        yield {"delta": " two"}
        yield done("one two")


@pytest.mark.parametrize("way", WAYS)
async def test_a_stream_is_never_silent_for_long(rig: Rig, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(responder, "KEEP_ALIVE_S", 0.05)
    monkeypatch.setattr(responder, "LOADING_S", 0.05)
    worker = Hesitant()
    rig.torchserve.script = worker.script
    rig.torchserve.may_load.clear()
    path, body = WAYS[way]
    async with asyncio.timeout(10), rig.client.stream("POST", path, json=body) as response:
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.aiter_lines()
        loading = await comment(lines)
        rig.torchserve.may_load.set()
        waiting = await comment(lines, ": keep-alive")
        worker.first.set()
        said = await anext(line async for line in lines if "one" in line)
        between = await comment(lines)
        worker.second.set()
        rest = [line async for line in lines if line]
    assert loading.startswith(": loading conversational_chat")
    assert (waiting, between) == (": keep-alive", ": keep-alive")
    events = [line.removeprefix("data: ") for line in [said, *rest] if line.startswith("data: {")]
    assert all(isinstance(orjson.loads(event), dict) for event in events)
    assert any(" two" in event for event in events)
    assert all(line.startswith((": ", "data: ", "event: ")) for line in rest)


async def comment(lines: AsyncIterator[str], wanted: str = ": ") -> str:
    """The next comment that begins with `wanted`."""
    return await anext(line async for line in lines if line.startswith(wanted))
