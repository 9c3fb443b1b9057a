"""Fixtures of the MCP tests: a gateway over the fake TorchServe that also answers on `/mcp`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import MCP_SESSION_ID, streamable_http_client
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types import CLIENT_CAPABILITIES_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.version import LATEST_MODERN_VERSION

from conductor_admin.app import create_app
from conductor_mcp.endpoint import McpEndpoint
from conductor_mcp.frames import ACCEPT, Frame, modern_headers
from tests.conductor_admin.conftest import catalogue, make_rig, rig, state  # noqa: F401
from tests.conductor_admin.fake_torchserve import SocketServer
from tests.conductor_admin.gateway_rig import Rig

ERAS = ("legacy", "auto")


@dataclass
class McpRig:
    """The rig with its `/mcp`, used in one protocol era."""

    rig: Rig
    url: str
    era: str

    @contextlib.asynccontextmanager
    async def client(self, **headers: str) -> AsyncIterator[Client]:
        """The SDK's own client, over HTTP."""
        async with httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:
            transport = streamable_http_client(self.url, http_client=http)
            async with Client(transport, mode=self.era) as client:
                yield client

    @contextlib.asynccontextmanager
    async def posted(self, method: str, params: Frame) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of the answer to one request; leaving the block drops its connection."""
        async with httpx2.AsyncClient(timeout=30, trust_env=False) as http:
            meta = dict(params.get("_meta", {}))
            if self.era == "legacy":
                headers = await self.session(http)
            else:
                meta |= {PROTOCOL_VERSION_META_KEY: LATEST_MODERN_VERSION, CLIENT_CAPABILITIES_META_KEY: {}}
            frame = {"jsonrpc": "2.0", "id": 7, "method": method, "params": {**params, "_meta": meta}}
            if self.era != "legacy":
                headers = modern_headers(frame, LATEST_MODERN_VERSION)
            async with http.stream("POST", self.url, json=frame, headers={**ACCEPT, **headers}) as reply:
                assert reply.status_code == 200
                yield reply.aiter_lines()

    async def session(self, http: httpx2.AsyncClient, **own: str) -> dict[str, str]:
        """The headers of a session of the handshake era, opened by a client with the headers `own`."""
        hello = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        }
        frame = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
        reply = await http.post(self.url, json=frame, headers={**ACCEPT, **own})
        return {
            **ACCEPT,
            MCP_SESSION_ID: reply.headers[MCP_SESSION_ID],
            MCP_PROTOCOL_VERSION_HEADER: "2025-06-18",
        }


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def mcp_rig(rig: Rig, era: str) -> AsyncIterator[McpRig]:  # noqa: F811
    endpoint = McpEndpoint(rig.gateway)
    server = SocketServer(create_app(rig.gateway, endpoint.routes))
    sessions = asyncio.create_task(endpoint.run())
    await server.start()
    try:
        yield McpRig(rig, f"http://127.0.0.1:{server.port}/mcp", era)
    finally:
        await server.stop()
        sessions.cancel()
        await asyncio.wait({sessions})
