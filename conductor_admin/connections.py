"""Connections to the gateway: what a client may cost that is late, large, silent, or reads nothing.

uvicorn bounds none of it with its C parser: a connection that says nothing, a header without an end, an
answer that nobody reads would be held for ever. Knows uvicorn's protocol class, not what a request means.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from conductor_admin.outflow import Outflow
from handlers.wire import RequestError

HEAD_S = 20.0
HEAD_BYTES = 64 * 2**10
SEND_S = 30.0
UNREAD_BODY_S = 5.0
"""Seconds in which the rest of a body is thrown away, so that its sender gets to read why it was refused."""

_REASONS = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a bound on each wait, and one error shape for what is no request.

    At most `most` connections are held; a client has `send_s` to take what waits for it.
    """

    send_s = SEND_S
    most: int | None = None

    _late: asyncio.TimerHandle | None = None
    _rest: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is due."""
        super().connection_made(transport)
        self._outflow = Outflow(transport, self.loop, self.send_s, self._is_standing)
        self.app = self._watched(self.app)
        if self.most is not None and len(self.connections) > self.most:
            self._refuse(503, "too_many_connections", f"this server holds {self.most} connections already")
        else:
            self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head that is not complete yet; a connection that only waits is idle."""
        if self.transport.is_closing():
            return
        due = self._late
        super().data_received(data)
        self._idle_again()
        # Of a head that began in these very bytes nobody knows how many are its own.
        if due is not None and due is self._late:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431, "header_too_large", f"the headers have more than {HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """Another head is due, on a connection that was kept."""
        super().on_message_begin()
        if self._late is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is there; the body has a time of its own."""
        self._head_is_there()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there, wanted or not."""
        self._rest_is_there()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Nobody will read the rest of a body that was answered before its end."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._rest = self.loop.call_later(UNREAD_BODY_S, self.transport.close)

    def pause_writing(self) -> None:
        """The client has to read before more is written."""
        super().pause_writing()
        self._outflow.watch()

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._outflow.watch()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        # uvicorn tells the newest request; of several sent in a row the one that runs is another, which would
        # go on writing to a closed connection.
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()
        self.pipeline.clear()
        self._head_is_there()
        self._rest_is_there()
        self._outflow.stop()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, in the shape of every other refusal."""
        self._refuse(400, "invalid_http", "this is not a valid HTTP request")

    def _watched(self, app: ASGIApp) -> ASGIApp:
        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            finally:
                # However it ended: uvicorn closes what was left without an end once this has returned.
                self.loop.call_soon(self._outflow.watch)

        return watched

    def _is_standing(self) -> bool:
        return self.flow.write_paused or self.transport.is_closing() or not self._is_answering

    def _idle_again(self) -> None:
        """uvicorn forgets to count a connection as idle on which there came anything but a request."""
        waits = self._late is None and self.cycle is not None and not self._is_answering
        if waits and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _rest_is_there(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._late = self.loop.call_later(
            HEAD_S, self._refuse, 408, "request_timeout", f"no whole request came within {HEAD_S:g} s"
        )

    def _head_is_there(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._head_is_there()
        if self.transport.is_closing():
            return
        if not (self._is_answering and self.cycle.response_started):
            self.transport.write(_answer(RequestError(message, status=status, code=code)))
        self.transport.close()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


def bounded(send_s: float, most: int | None = None) -> type[BoundedProtocol]:
    """The protocol with the operator's bounds, as uvicorn wants it: a class."""
    return type("Protocol", (BoundedProtocol,), {"send_s": send_s, "most": most})


def _answer(error: RequestError) -> bytes:
    body = orjson.dumps(error.body())
    head = (
        b"HTTP/1.1 %d %b\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    return head % (error.status, _REASONS[error.status], len(body)) + body
