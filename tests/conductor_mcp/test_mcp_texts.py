"""JSON-RPC texts of a program, and the relay of a stdio client, on a gateway with a fake worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp_types import PROTOCOL_VERSION_META_KEY
from mcp_types.version import LATEST_MODERN_VERSION

from conductor_mcp.client.embedded import ConductorServer
from conductor_mcp.client.relay import Relay
from conductor_mcp.client.shared_gateway import Address
from tests.conductor_admin.fake_torchserve import done
from tests.conductor_mcp.conftest import McpRig

HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


@pytest.fixture
def era() -> str:
    """A single era, because these tests send their own frames."""
    return "auto"


@pytest.fixture
async def server(mcp_rig: McpRig, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ConductorServer]:
    server = ConductorServer(state_dir=mcp_rig.rig.state.root)
    here = Address(mcp_rig.url, {})

    async def address() -> Address:
        return here

    monkeypatch.setattr(server._gateway, "address", address)
    await server.initialize()
    yield server
    await server.shutdown()


@pytest.mark.parametrize(
    ("text", "code", "id"),
    [
        ("", -32700, None),
        ('{"id": 1, "method": "ping"', -32700, None),
        ('{"id": NaN, "method": "ping"}', -32700, None),
        ("[" * 100_000, -32700, None),
        ("[]", -32600, None),
        ("7", -32600, None),
        ('{"id": 1}', -32600, 1),
        ('{"id": 1.5, "method": "ping"}', -32600, None),
        ('{"id": null, "method": "ping"}', -32600, None),
        ('{"id": true, "method": "ping"}', -32600, None),
        ('{"jsonrpc": "1.0", "id": "a", "method": "ping"}', -32600, "a"),
        ('{"id": "1", "method": "nope"}', -32601, "1"),
        ('{"id": 1, "method": "tools/call"}', -32602, 1),
        ('{"id": 1, "method": "tools/call", "params": []}', -32602, 1),
        ('{"id": 1, "method": "tools/call", "params": {"name": 5}}', -32602, 1),
        ('{"id": 1, "method": "tools/call", "params": {"name": "nope"}}', -32602, 1),
        ('{"id": 1, "method": "resources/read", "params": {"uri": "conductor://nope"}}', -32602, 1),
    ],
)
async def test_a_text_that_cannot_be_answered_is_refused_by_its_code(
    server: ConductorServer, text: str, code: int, id: object
) -> None:
    answer = json.loads(await server.handle_mcp_request(text))
    assert answer["jsonrpc"] == "2.0"
    assert answer["error"]["code"] == code
    assert answer["id"] == id


async def test_an_id_comes_back_as_it_was(server: ConductorServer) -> None:
    for id in ("1", 1, 0, "", 10**30, "ü"):
        text = json.dumps({"id": id, "method": "tools/list"})
        answer = json.loads(await server.handle_mcp_request(text))
        assert answer["id"] == id
        assert "result" in answer


async def test_a_batch_is_answered_by_a_batch_without_its_notifications(server: ConductorServer) -> None:
    batch = [
        {"id": "a", "method": "ping"},
        {"method": "notifications/initialized"},
        {
            "id": "b",
            "method": "tools/call",
            "params": {"name": "generate_text", "arguments": {"prompt": "x"}},
        },
        8,
    ]
    answers = json.loads(await server.handle_mcp_request(json.dumps(batch)))
    assert [answer["id"] for answer in answers] == ["a", "b", None]
    assert answers[1]["result"]["structuredContent"]["text"] == "one two three"


async def test_a_notification_is_answered_by_nothing(server: ConductorServer) -> None:
    assert await server.handle_mcp_request('{"method": "notifications/initialized"}') == ""
    assert await server.handle_mcp_request('[{"method": "notifications/initialized"}]') == ""


async def test_a_handshake_is_answered_too(server: ConductorServer) -> None:
    text = json.dumps({"id": 1, "method": "initialize", "params": HELLO})
    answer = json.loads(await server.handle_mcp_request(text))
    assert answer["result"]["serverInfo"]["name"] == "conductor"
    assert answer["result"]["protocolVersion"] == "2025-06-18"


async def slow(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield {"delta": "one"}
    await asyncio.Event().wait()
    yield done("one")


async def test_a_request_can_be_cancelled_by_its_id_or_by_its_caller(
    mcp_rig: McpRig, server: ConductorServer
) -> None:
    mcp_rig.rig.torchserve.script = slow
    call = {
        "id": 5,
        "method": "tools/call",
        "params": {"name": "generate_text", "arguments": {"prompt": "x"}},
    }

    async def begun(count: int) -> None:
        await mcp_rig.rig.until(
            lambda: (
                sum(len(w.requests) for w in mcp_rig.rig.torchserve.workers("conversational_chat")) == count
            )
        )

    async with asyncio.timeout(10):
        first = asyncio.create_task(server.handle_mcp_request(json.dumps(call)))
        await begun(1)
        (worker,) = mcp_rig.rig.torchserve.workers("conversational_chat")
        stop = '{"method": "notifications/cancelled", "params": {"requestId": 5}}'
        assert await server.handle_mcp_request(stop) == ""
        assert await first == ""
        await worker.left.wait()
        worker.left.clear()
        second = asyncio.create_task(server.handle_mcp_request(json.dumps(call)))
        await begun(2)
        second.cancel()
        await worker.left.wait()


class Wire:
    """The client's side of a relay."""

    def __init__(self, mcp_rig: McpRig) -> None:
        self.frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.found = 0
        self._url = mcp_rig.url
        self.relay = Relay(self._find, self._write)

    async def _find(self) -> Address:
        self.found += 1
        return Address(self._url, {})

    async def _write(self, line: str) -> None:
        self.frames.put_nowait(json.loads(line))

    async def say(self, **frame: Any) -> None:
        await self.relay.take(json.dumps({"jsonrpc": "2.0", **frame}).encode())

    async def answer(self, id: object) -> dict[str, Any]:
        """The answer to `id`; frames before it are dropped."""
        async with asyncio.timeout(10):
            while (frame := await self.frames.get()).get("id") != id:
                pass
            return frame

    async def greet(self) -> None:
        await self.say(id="hello", method="initialize", params=HELLO)
        await self.answer("hello")
        await self.say(method="notifications/initialized")


@pytest.fixture
async def wire(mcp_rig: McpRig) -> AsyncIterator[Wire]:
    wire = Wire(mcp_rig)
    yield wire
    await wire.relay.close()


async def test_the_relay_speaks_the_era_of_each_message(wire: Wire) -> None:
    meta = {PROTOCOL_VERSION_META_KEY: LATEST_MODERN_VERSION}
    modern = {"_meta": {**meta, "io.modelcontextprotocol/clientCapabilities": {}}}
    await wire.say(id=1, method="server/discover", params=modern)
    assert LATEST_MODERN_VERSION in (await wire.answer(1))["result"]["supportedVersions"]
    await wire.greet()
    await wire.say(id=2, method="ping")
    assert (await wire.answer(2))["result"] == {}


async def test_a_session_that_was_lost_is_begun_again_unseen(mcp_rig: McpRig, wire: Wire) -> None:
    await wire.greet()
    before = wire.relay._session
    assert before is not None
    await mcp_rig.rig.client.delete(mcp_rig.url, headers=before.headers)
    await wire.say(id=3, method="tools/list")
    assert (await wire.answer(3))["result"]["tools"]
    assert wire.relay._session != before


@pytest.mark.parametrize("modern", [True, False])
async def test_the_relay_cancels_in_both_eras(mcp_rig: McpRig, wire: Wire, modern: bool) -> None:
    mcp_rig.rig.torchserve.script = slow
    meta: dict[str, Any] = {"progressToken": "p"}
    if modern:
        meta |= {PROTOCOL_VERSION_META_KEY: LATEST_MODERN_VERSION}
        meta |= {"io.modelcontextprotocol/clientCapabilities": {}}
    else:
        await wire.greet()
    params = {"name": "generate_text", "arguments": {"prompt": "x"}, "_meta": meta}
    await wire.say(id=4, method="tools/call", params=params)
    async with asyncio.timeout(10):
        while (await wire.frames.get()).get("params", {}).get("message") != "one":
            pass
        await wire.say(method="notifications/cancelled", params={"requestId": 4})
        (worker,) = mcp_rig.rig.torchserve.workers("conversational_chat")
        await worker.left.wait()


async def test_the_end_of_the_client_is_the_end_of_its_requests(mcp_rig: McpRig, wire: Wire) -> None:
    mcp_rig.rig.torchserve.script = slow
    await wire.greet()
    params = {"name": "generate_text", "arguments": {"prompt": "x"}, "_meta": {"progressToken": 1}}
    await wire.say(id=4, method="tools/call", params=params)
    async with asyncio.timeout(10):
        while (await wire.frames.get()).get("params", {}).get("message") != "one":
            pass
        await wire.relay.close()
        (worker,) = mcp_rig.rig.torchserve.workers("conversational_chat")
        await worker.left.wait()
