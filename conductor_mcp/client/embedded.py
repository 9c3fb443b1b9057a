"""MCP for a program: JSON-RPC texts in, JSON-RPC texts out, answered by the gateway of a state directory.

A text needs no handshake: this module adds what the protocol requires besides method and params.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx2
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PROTOCOL_VERSION_META_KEY,
)
from mcp_types.version import LATEST_MODERN_VERSION

from conductor_core.operator import operator_settings
from conductor_mcp.client.exchange import frames_of, new_client
from conductor_mcp.client.shared_gateway import Address, SharedGateway
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

_TRIES = 2


class ConductorServer:
    """The MCP server of a state directory; call `initialize` first and `shutdown` at the end.

    `state_dir` and `settings` are those of `conductor serve`, by default from the environment. Uses the
    gateway that runs on the state directory, or starts one, which ends with the last of its clients.
    """

    def __init__(self, *, settings: str | Path | None = None, state_dir: str | Path | None = None) -> None:
        self._gateway = SharedGateway(operator_settings(settings=settings, state_dir=state_dir))
        self._http: httpx2.AsyncClient | None = None
        self._requests: dict[tuple[type, object], asyncio.Task[Frame]] = {}

    async def initialize(self) -> None:
        """Find the gateway or start it. Raises GatewayError if neither is possible."""
        await self._gateway.address()
        self._http = self._http or new_client()

    async def handle_mcp_request(self, text: str) -> str:
        """Answer one JSON-RPC text or a batch; returns an empty text for notifications."""
        try:
            value = read_json(text)
        except BadFrame as bad:
            return dumped(bad.answer)
        if not isinstance(value, list):
            answer = await self._answer(value)
            return dumped(answer) if answer else ""
        if not value:
            return dumped(error_frame(INVALID_REQUEST, "Invalid Request: the batch is empty"))
        answers = await asyncio.gather(*(self._answer(one) for one in value))
        owed = [answer for answer in answers if answer]
        return dumped(owed) if owed else ""

    async def shutdown(self) -> None:
        """Cancel running requests and release the gateway; a second call does nothing."""
        tasks = list(self._requests.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._http:
            await self._http.aclose()
            self._http = None
        self._gateway.release()

    async def _answer(self, value: Any) -> Frame | None:
        try:
            frame = read_frame({"jsonrpc": "2.0", **value} if isinstance(value, dict) else value)
            if frame["jsonrpc"] != "2.0":
                raise BadFrame(INVALID_REQUEST, "Invalid Request: jsonrpc must be 2.0", frame.get("id"))
        except BadFrame as bad:
            return bad.answer
        if not is_request(frame):
            # Cancels a request and its generation; other notifications mean nothing to a stateless server.
            if frame.get("method") == "notifications/cancelled":
                id = frame.get("params", {}).get("requestId")
                if task := self._requests.get((type(id), id)):
                    task.cancel()
            return None
        if frame["method"] == "ping":  # the stateless era has no ping, so it is answered here
            return {"jsonrpc": "2.0", "id": frame["id"], "result": {}}
        return await self._run(frame)

    async def _run(self, frame: Frame) -> Frame | None:
        key = (type(frame["id"]), frame["id"])
        task = self._requests[key] = asyncio.create_task(self._request(frame))
        try:
            with suppress(asyncio.CancelledError):
                return await asyncio.shield(task)
            if not task.cancelled():
                task.cancel()
                raise asyncio.CancelledError
            return None
        finally:
            if self._requests.get(key) is task:
                del self._requests[key]

    async def _request(self, frame: Frame) -> Frame:
        for attempt in range(1, _TRIES + 1):
            address = await self._gateway.address()
            try:
                return await self._post(address, frame)
            except httpx2.ConnectError:
                if attempt == _TRIES:
                    raise
            except (httpx2.TransportError, BadFrame):
                break
        return error_frame(
            INTERNAL_ERROR, "the gateway stopped in the middle of the answer; try again", frame["id"]
        )

    async def _post(self, address: Address, frame: Frame) -> Frame:
        if self._http is None:
            raise RuntimeError("call initialize() before handle_mcp_request()")
        headers = {**ACCEPT, **address.headers}
        if frame["method"] != "initialize":
            # The stateless era requires these `_meta` fields in each request.
            params = frame.get("params", {})
            meta = params.get("_meta")
            own = {
                PROTOCOL_VERSION_META_KEY: LATEST_MODERN_VERSION,
                CLIENT_INFO_META_KEY: {"name": "ConductorServer", "version": metadata.version("conductor")},
                CLIENT_CAPABILITIES_META_KEY: {},
            }
            given = meta if isinstance(meta, dict) else {}
            frame = {**frame, "params": {**params, "_meta": {**own, **given}}}
            headers |= modern_headers(frame, version_of(frame) or LATEST_MODERN_VERSION)
        content = dumped(frame).encode("utf-8", "surrogatepass")
        async with self._http.stream("POST", address.url, content=content, headers=headers) as reply:
            if reply.status_code >= 400:
                return http_error(reply.status_code, await reply.aread(), frame["id"])
            async with aclosing(frames_of(reply)) as frames:
                async for answer in frames:
                    if answer.get("id") == frame["id"]:
                        return answer
        return error_frame(INTERNAL_ERROR, "the gateway did not answer", frame["id"])
