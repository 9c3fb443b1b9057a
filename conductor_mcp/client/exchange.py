"""HTTP exchange with `/mcp`: frames of an answer from one JSON body or from server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx2
from httpx2 import EventSource

from conductor_mcp.frames import Frame, read_json

EVENTS = "text/event-stream"


def new_client() -> httpx2.AsyncClient:
    """Client for a gateway of this machine: no proxies, only a connect timeout, no limit of connections."""
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(None, connect=5.0),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=8),
        trust_env=False,
    )


async def frames_of(reply: httpx2.Response) -> AsyncGenerator[Frame, None]:
    """Yield the frames of an answer as they come."""
    if not reply.headers.get("content-type", "").startswith(EVENTS):
        if body := await reply.aread():
            yield read_json(body)
        return
    # No limit on an event: the last one holds the whole answer.
    async for event in EventSource(reply, max_event_size=None):
        if event.data:
            yield read_json(event.data)
