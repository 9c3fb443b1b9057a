"""Fixtures of the MCP tests: a gateway over the fake TorchServe that also answers on `/mcp`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from conductor_admin.app import create_app
from conductor_mcp.endpoint import McpEndpoint
from tests.conductor_admin.conftest import catalogue, make_rig, rig, state  # noqa: F401
from tests.conductor_admin.fake_torchserve import SocketServer
from tests.conductor_admin.gateway_rig import Rig

ERAS = ("legacy", "auto")


@dataclass
class McpRig:
    """The rig with its `/mcp`, spoken to in one protocol era."""

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
