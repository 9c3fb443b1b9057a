"""HTTP responses whose making ends with the client: a stream of bytes, or one answer that takes long.

Knows ASGI and RequestError; what the bytes mean is the caller's business. Starlette's own StreamingResponse
cannot turn a failure before the first byte into a status. A client that reads nothing holds `send` until
`conductor_admin.connections` cuts it, which is the same as its leaving.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from conductor_admin.failures import error_response
from handlers.wire import RequestError

Pieces = AsyncGenerator[bytes, None]


class StreamResponse(Response):
    """Sends `pieces` as they come. A failure before the first is `failed(error)`, later `tail(error)`."""

    def __init__(
        self,
        pieces: Pieces,
        media_type: str,
        tail: Callable[[RequestError], bytes],
        failed: Callable[[RequestError], Response] = error_response,
        more_headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no", **more_headers}
        super().__init__(media_type=media_type, headers=headers)
        del self.headers["content-length"]
        self._pieces = pieces
        self._tail = tail
        self._failed = failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; returns early, with the pieces closed, when the client has left."""
        await until_left(receive, self._send(scope, receive, send))

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._pieces) as pieces:
            try:
                piece = await anext(pieces, b"")
            except RequestError as error:
                await self._failed(error)(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                while piece:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    piece = await anext(pieces, b"")
            except RequestError as error:
                await send({"type": "http.response.body", "body": self._tail(error), "more_body": True})
            await send({"type": "http.response.body", "body": b""})


T = TypeVar("T")


async def until_left(receive: Receive, work: Awaitable[T]) -> T | None:
    """The result of `work`, or None when the client has left first; `work` is cancelled then."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_left(receive))
    tasks: set[asyncio.Future[object]] = {working, leaving}  # type: ignore[arg-type]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return None if working.cancelled() else working.result()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
