"""Relays the frames of one stdio client to the gateway's `/mcp` and back, in whichever era the client speaks.

Frames pass through unchanged. The relay does for the client all that HTTP needs: headers, the session of the
handshake era, a new gateway and a new handshake if the old gateway is gone, and cancelling, which in the
stateless era means to close the connection of the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

import httpx2
import structlog
from mcp.client.streamable_http import MCP_SESSION_ID
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types import INTERNAL_ERROR

from conductor_mcp.client.exchange import frames_of, new_client
from conductor_mcp.client.shared_gateway import Address, GatewayError
from conductor_mcp.frames import (
    ACCEPT,
    BadFrame,
    Frame,
    dumped,
    error_frame,
    http_error,
    is_request,
    modern_headers,
    read_frame,
    read_json,
    version_of,
)

log = structlog.get_logger()

GRACE_S = 1.0  # for answers on their way when the client has closed its side
_AGAIN_S = 1.0
_INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


@dataclass(frozen=True, slots=True)
class RelaySession:
    """Result of the handshake: the id and the version that all later messages carry."""

    id: str
    version: str

    @property
    def headers(self) -> dict[str, str]:
        return {MCP_SESSION_ID: self.id, MCP_PROTOCOL_VERSION_HEADER: self.version}


class SessionLost(Exception):
    """The gateway no longer knows the session."""


class Relay:
    """Takes lines of a client with `take`, passes lines to `write`; `find` returns the gateway's address."""

    def __init__(
        self, find: Callable[[], Awaitable[Address]], write: Callable[[str], Awaitable[None]]
    ) -> None:
        self._find = find
        self._write = write
        self._http = new_client()
        self._address: Address | None = None
        self._greeting: Frame | None = None
        self._session: RelaySession | None = None
        self._mending = asyncio.Lock()
        self._requests: dict[tuple[type, object], asyncio.Task[None]] = {}
        self._listening: asyncio.Task[None] | None = None

    async def take(self, line: bytes) -> None:
        """Handle one line of the client; requests go on while the next line is taken."""
        try:
            frame = read_frame(read_json(line))
        except BadFrame as bad:
            await self._write(dumped(bad.answer))
            return
        if not is_request(frame):
            if not self._cancels(frame):
                await self._tell(frame)
            return
        key = (type(frame["id"]), frame["id"])
        task = self._requests[key] = asyncio.create_task(self._request(frame))

        def ended(_: object) -> None:
            if self._requests.get(key) is task:
                del self._requests[key]

        task.add_done_callback(ended)

    async def close(self) -> None:
        """Wait GRACE_S seconds for answers to a client that has closed its side; then cancel all."""
        if self._requests:
            await asyncio.wait(self._requests.values(), timeout=GRACE_S)
        tasks = [*self._requests.values(), *([self._listening] if self._listening else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._session and self._address:
            with suppress(httpx2.TransportError, TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    headers = {**self._address.headers, **self._session.headers}
                    await self._http.delete(self._address.url, headers=headers)
            self._session = None
        await self._http.aclose()

    def _cancels(self, frame: Frame) -> bool:
        """Cancel a request of the stateless era; False in the handshake era, where the gateway does it."""
        if frame.get("method") != "notifications/cancelled" or self._session:
            return False
        id = frame.get("params", {}).get("requestId")
        if task := self._requests.get((type(id), id)):
            task.cancel()
        return True

    async def _request(self, frame: Frame) -> None:
        """Relay a request and its answers; if the gateway is gone, try once more with another one."""
        try:
            try:
                await self._relay(frame)
            except (httpx2.ConnectError, SessionLost):
                await self._mend(self._session)
                await self._relay(frame)
        except GatewayError as error:
            await self._fail(frame, str(error))
        except (httpx2.TransportError, SessionLost, BadFrame) as error:
            log.warning("gateway_lost", cause=type(error).__name__)
            await self._fail(frame, "the gateway stopped in the middle of the answer; try again")

    async def _fail(self, frame: Frame, message: str) -> None:
        await self._write(dumped(error_frame(INTERNAL_ERROR, message, frame["id"])))

    async def _relay(self, frame: Frame) -> None:
        async with self._post(frame) as reply:
            if reply.status_code >= 400:
                await self._write(dumped(http_error(reply.status_code, await reply.aread(), frame["id"])))
                return
            async with aclosing(frames_of(reply)) as frames:
                async for answer in frames:
                    if frame["method"] == "initialize":
                        self._greeted(frame, answer, reply)
                    await self._write(dumped(answer))

    def _greeted(self, frame: Frame, answer: Frame, reply: httpx2.Response) -> None:
        session_id, result = reply.headers.get(MCP_SESSION_ID), answer.get("result")
        if session_id and isinstance(result, dict):
            self._greeting = frame
            self._session = RelaySession(session_id, str(result.get("protocolVersion")))

    async def _tell(self, frame: Frame) -> None:
        """Pass on a notification, or an answer to the server; a failure is only logged."""
        try:
            async with self._post(frame) as reply:
                await reply.aread()
        except (httpx2.TransportError, SessionLost, GatewayError) as error:
            log.warning("notification_lost", cause=type(error).__name__)
        if frame.get("method") == _INITIALIZED["method"]:
            if self._listening:
                self._listening.cancel()
            self._listening = asyncio.create_task(self._hear(self._session))

    @asynccontextmanager
    async def _post(self, frame: Frame) -> AsyncIterator[httpx2.Response]:
        if self._address is None:
            self._address = await self._find()
        address = self._address
        version = version_of(frame) if "method" in frame else None
        session = self._session if frame.get("method") != "initialize" and version is None else None
        own = modern_headers(frame, version) if version else session.headers if session else {}
        headers = {**ACCEPT, **address.headers, **own}
        content = dumped(frame).encode("utf-8", "surrogatepass")
        async with self._http.stream("POST", address.url, content=content, headers=headers) as reply:
            if session and reply.status_code == 404 and is_request(frame):
                raise SessionLost
            yield reply

    async def _mend(self, lost: RelaySession | None) -> None:
        """Find or start a gateway, and repeat the client's handshake if there was one."""
        async with self._mending:
            if lost is not self._session:
                return
            self._address = await self._find()
            if self._greeting is None or lost is None:
                return
            async with self._post(self._greeting) as reply, aclosing(frames_of(reply)) as frames:
                async for answer in frames:
                    self._greeted(self._greeting, answer, reply)
            await self._tell(_INITIALIZED)

    async def _hear(self, session: RelaySession | None) -> None:
        """Pass on messages that the server sends outside of any request, while the session lasts."""
        while session and self._address:
            headers = {**ACCEPT, **self._address.headers, **session.headers}
            with suppress(httpx2.TransportError, BadFrame):
                async with self._http.stream("GET", self._address.url, headers=headers) as reply:
                    if reply.status_code != 200:
                        return
                    async with aclosing(frames_of(reply)) as frames:
                        async for frame in frames:
                            await self._write(dumped(frame))
            await asyncio.sleep(_AGAIN_S)
