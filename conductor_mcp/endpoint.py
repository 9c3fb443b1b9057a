"""`/mcp`: the MCP server as an ASGI application inside the gateway, behind the gateway's own middleware.

Host, Origin and keys are checked before a request comes here, so that the first key closes `/mcp` at once.
The SDK's own checks, which are fixed at construction, are off. A session belongs to the key that opened it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER as MCP_SESSION_ID
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from conductor_admin.auth.caller import Caller, caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.http.body_limits import UNESCAPED_BYTES
from conductor_admin.http.responses import JsonResponse
from conductor_mcp.frames import BadFrame
from conductor_mcp.posted_frame import posted_frame
from conductor_mcp.server import build_server
from conductor_mcp.session_shares import SessionShares, opens_session

PATH = "/mcp"
MOST_SESSIONS = 128
"""Most open sessions of one client; the SDK's own limit is for all clients together."""
IDLE_S = 600.0
"""Seconds after which an unused session ends; its client then has to open another one."""


class McpEndpoint:
    """The routes of `/mcp`; they work while `run` runs."""

    def __init__(self, gateway: Gateway) -> None:
        server = build_server(gateway)
        checked_by_the_middleware = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        server.streamable_http_app(
            transport_security=checked_by_the_middleware,
            max_request_body_size=UNESCAPED_BYTES,
            session_idle_timeout=IDLE_S,
        )
        self._sessions = server.session_manager
        self._shares = SessionShares(MOST_SESSIONS)
        self._quotas = gateway.dispatcher.quotas

    @property
    def routes(self) -> list[Route]:
        """The endpoint, with and without a slash at its end."""
        return [Route(path, endpoint=self, include_in_schema=False) for path in (PATH, f"{PATH}/")]

    async def run(self) -> None:
        """Serve until cancelled; may be called only once."""
        async with self._sessions.run():
            await asyncio.Event().wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request in the name of its caller."""
        # The HTTP parser leaves blanks at the end of a value, which the SDK would read as part of it.
        scope["headers"] = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        caller = caller_of(Request(scope))
        if caller.key_id is not None:
            token = AccessToken(token="", client_id=caller.key_id, scopes=sorted(caller.scopes))
            scope["user"] = AuthenticatedUser(token)
        left = scope.setdefault("state", {})["left"] = asyncio.Event()

        async def watched() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                left.set()
            return message

        try:
            receive_frame = await self._checked(scope, watched, send)
            if receive_frame is not None:
                async with self._session(scope, caller, send) as send_noted:
                    await self._sessions.handle_request(scope, receive_frame, send_noted)
        finally:
            left.set()  # also if the gateway cut the connection because its key was revoked

    @asynccontextmanager
    async def _session(self, scope: Scope, caller: Caller, send: Send) -> AsyncIterator[Send]:
        """Count the caller's sessions around one request, which has to send with the yielded function.

        Raises RequestError 429 for one session too many; opening a session counts as a request of the key.
        """
        headers = Headers(scope=scope)
        session_id = headers.get(MCP_SESSION_ID)
        if session_id is not None:
            with self._shares.in_use(caller.client, session_id):
                yield send
            if scope["method"] == "DELETE":
                self._shares.ended(caller.client, session_id)
        elif not opens_session(scope["method"], headers):
            yield send
        else:
            with self._quotas.admitted(caller), self._shares.opening(caller.client) as opening:
                for idle in opening.to_end:
                    await self._end(scope, idle)
                    self._shares.ended(caller.client, idle)

                async def noted(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        opened = Headers(raw=message["headers"]).get(MCP_SESSION_ID)
                        if opened is not None:
                            self._shares.opened(opening.client, opened, opening)
                    await send(message)

                yield noted

    async def _end(self, scope: Scope, session_id: str) -> None:
        """End a session as its own client would; does nothing if it has ended already."""
        headers = [(MCP_SESSION_ID.encode(), session_id.encode()), (b"accept", b"application/json")]

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def unheard(_: Message) -> None:
            """Discard the answer."""

        await self._sessions.handle_request(
            {**scope, "method": "DELETE", "headers": headers, "state": dict(scope["state"])}, nothing, unheard
        )

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> Receive | None:
        """Check the body, and return a `receive` that replays it for the SDK; None if it was refused."""
        if scope["method"] != "POST":
            return receive
        try:
            body = await posted_frame(Request(scope, receive))
        except BadFrame as error:
            await JsonResponse(error.answer, 400)(scope, receive, send)
            return None
        given = False

        async def replayed() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return replayed
