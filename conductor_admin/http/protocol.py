"""Connections to the gateway: what a client may cost that is late, large, silent, or reads nothing.

uvicorn bounds none of it with its C parser: a connection that says nothing, a header without an end, an
answer that nobody reads would be held for ever. A client that takes nothing costs a generation its worker,
and keeps what was written for it. Knows uvicorn's protocol class and its transport, not what a request means.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from handlers.wire import RequestError

LEAST_BYTES = 16 * 2**10
"""What a client has to take within the time; one byte now and then is as good as nothing."""

HEAD_S = 20.0
HEAD_BYTES = 64 * 2**10
HEADER_LINES = 100
LINE_BYTES = 16 * 2**10
FRAMING_BYTES = 64 * 2**10
"""Chunk sizes, chunk extensions and trailers of a body have at most so many bytes more than the body."""
FRAMING_RUN_BYTES = 16 * 2**10
"""Bytes of these that may come without a byte of the body between: one chunk extension, or all trailers."""
PIPELINED = 64
"""Requests that may wait on a connection for the answer to the one before."""
SEND_S = 30.0
UNREAD_BODY_S = 5.0
"""Seconds in which the rest of a body is thrown away, so that its sender gets to read why it was refused."""

_SLICE_BYTES = 8 * 2**10
"""The parser is fed in slices, so that what it has not told of yet is bounded by one of them."""
_TARGET = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)

_REASONS = {
    400: b"Bad Request",
    408: b"Request Timeout",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


class Outflow:
    """Resets `transport` where its client takes less than LEAST_BYTES in `limit_s` of what waits for it.

    `is_standing()` says that nothing is added meanwhile, so that the buffer shrinks by what was taken.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        limit_s: float,
        is_standing: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._limit_s = limit_s
        self._is_standing = is_standing
        self._unread = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Begin, or begin anew: from here on nothing is written until the client has read."""
        self.stop()
        self._unread = self._transport.get_write_buffer_size()
        if self._unread and self._is_standing():
            self._timer = self._loop.call_later(self._limit_s, self._look)

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """Watch never again, and let go of the connection that asked for it."""
        self.stop()
        self._is_standing = bool  # false

    def _look(self) -> None:
        taken = self._unread - self._transport.get_write_buffer_size()
        if taken < min(LEAST_BYTES, self._unread) and self._is_standing():
            self._reset()
        else:
            self.watch()

    def _reset(self) -> None:
        # Without this the kernel would keep what is unread until the client, still alive, has ended.
        own = self._transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a bound on each wait, and one error shape for what is no request.

    At most `most` connections are held; a client has `send_s` to take what waits for it.
    """

    send_s = SEND_S
    most: int | None = None

    _late: asyncio.TimerHandle | None = None
    _rest: asyncio.TimerHandle | None = None
    _running: RequestResponseCycle | None = None
    _head_bytes = 0
    _header_lines = 0
    _in_body = False
    _body_bytes = 0
    _framing = 0
    _framing_run = 0

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
        """Feed the parser, and count what belongs to a head that is not complete yet or is no body."""
        rest = memoryview(data)
        while rest and not self.transport.is_closing():
            self._feed(bytes(rest[:_SLICE_BYTES]))
            rest = rest[_SLICE_BYTES:]
        self._idle_again()

    def _feed(self, data: bytes) -> None:
        due, body, read = self._late, self.scope if self._in_body else None, self._body_bytes
        super().data_received(data)
        if self.transport.is_closing():
            return
        # Of what began or ended in this slice nobody knows how many bytes are its own; a slice is little.
        if due is not None and due is self._late:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431, "header_too_large", f"the headers have more than {HEAD_BYTES} bytes")
        elif body is not None and self._in_body and body is self.scope:
            self._count_framing(len(data), self._body_bytes - read)
        elif len(self.pipeline) > PIPELINED:
            self._refuse(400, "too_many_requests", f"more than {PIPELINED} requests came before an answer")

    def _count_framing(self, fed: int, body: int) -> None:
        """A slice of `fed` bytes had `body` bytes of the body."""
        self._framing += fed - body
        self._framing_run = 0 if body else self._framing_run + fed
        if self._framing_run > FRAMING_RUN_BYTES:
            self._refuse(431, "trailer_too_large", "the trailers or a chunk extension are too large")
        elif self._framing > FRAMING_BYTES + self._body_bytes:
            self._refuse(400, "chunks_too_small", "the chunks of the body are too small for their number")

    def on_message_begin(self) -> None:
        """Another head is due, on a connection that was kept."""
        super().on_message_begin()
        self._header_lines = 0
        self._in_body = False
        if self._late is None:
            self._expect_head()

    def on_url(self, url: bytes) -> None:
        """Keep a piece of the target."""
        super().on_url(url)
        if len(self.url) > LINE_BYTES:
            self._refuse(414, "target_too_long", f"the target has more than {LINE_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the head; what comes behind the body is a trailer, and means nothing here."""
        if self._in_body:
            return
        self._header_lines += 1
        if self._header_lines > HEADER_LINES or len(name) + len(value) > LINE_BYTES:
            self._refuse(
                431,
                "header_too_large",
                f"there are more than {HEADER_LINES} headers, or one has more than {LINE_BYTES} bytes",
            )
        elif not self.transport.is_closing():
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there; the body has a time of its own."""
        if self.transport.is_closing():
            return
        self._head_is_there()
        self._in_body = True
        self._body_bytes = self._framing = self._framing_run = 0
        self.scope["state"]["authority"] = _authority(self.url)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count and keep a piece of the body."""
        if self._in_body:
            self._body_bytes += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is there, wanted or not."""
        self._rest_is_there()
        if self._in_body:
            self._in_body = False
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

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._head_is_there()
        self._rest_is_there()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        if self._running is not None and not self._running.response_complete:
            # uvicorn tells only the request that came last.
            self._running.disconnected = True
            self._running.message_event.set()
        # The ways from this object to itself: with them it would stay until a full collection of garbage.
        self._outflow.end()
        self.app = self.config.loaded_app
        self.pipeline.clear()
        self.cycle = self._running = None  # type: ignore[assignment]

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, in the shape of every other refusal."""
        self._refuse(400, "invalid_http", "this is not a valid HTTP request")

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: any client could fill the log with it."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        self._running = cycle
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]

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
        if not (self._is_answering and self._running and self._running.response_started):
            self.transport.write(_answer(RequestError(message, status=status, code=code)))
        self.transport.close()
        self._outflow.watch()

    @property
    def _is_answering(self) -> bool:
        return self._running is not None and not self._running.response_complete


def bounded(send_s: float, most: int | None = None) -> type[BoundedProtocol]:
    """The protocol with the operator's bounds, as uvicorn wants it: a class."""
    return type("Protocol", (BoundedProtocol,), {"send_s": send_s, "most": most})


def _authority(target: bytes) -> str | None:
    """The host that the target of a request names itself; None for a path, "" for what is no URL of HTTP."""
    if target.startswith(b"/") or target == b"*":
        return None
    found = _TARGET.match(target)
    return found[1].decode("latin-1") if found else ""


def _answer(error: RequestError) -> bytes:
    body = orjson.dumps(error.body())
    head = (
        b"HTTP/1.1 %d %b\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    return head % (error.status, _REASONS[error.status], len(body)) + body
