"""`/mcp`: the MCP server as an ASGI application inside the gateway, behind the gateway's own guard.

Host, Origin and keys are checked before a request comes here, so that the first key closes `/mcp` at once;
the SDK's own checks, fixed at construction, are off. A session belongs to the key that opened it.
"""

from __future__ import annotations

import asyncio

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from conductor_admin.callers import caller_of
from conductor_admin.failures import JsonResponse
from conductor_admin.gateway import Gateway
from conductor_admin.http.body_limits import UNESCAPED_BYTES
from conductor_mcp.frames import BadFrame
from conductor_mcp.posted_frame import posted_frame
from conductor_mcp.server import build_server

PATH = "/mcp"


class McpEndpoint:
    """The routes of `/mcp`; they answer while `run` runs."""

    def __init__(self, gateway: Gateway) -> None:
        server = build_server(gateway)
        open_to_the_guard = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        server.streamable_http_app(
            transport_security=open_to_the_guard, max_request_body_size=UNESCAPED_BYTES
        )
        self._sessions = server.session_manager

    @property
    def routes(self) -> list[Route]:
        """The endpoint, with and without a slash at its end."""
        return [Route(path, endpoint=self, include_in_schema=False) for path in (PATH, f"{PATH}/")]

    async def run(self) -> None:
        """Serve until cancelled; can be called once."""
        async with self._sessions.run():
            await asyncio.Event().wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request in the name of its caller."""
        # The HTTP parser leaves blanks at the end of a value, which the SDK would take for part of it.
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
                await self._sessions.handle_request(scope, receive_frame, send)
        finally:
            left.set()  # also where the connection was cut from here: its key was revoked

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> Receive | None:
        """What gives the SDK a body that it can parse cheaply; None where it was refused."""
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
