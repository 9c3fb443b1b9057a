"""Connections to the gateway: limits for clients that are slow, silent, send too much, or do not read.

uvicorn with its C parser has none of these limits: a silent connection, an endless header or an unread answer
would be held for ever. A client that does not read blocks a worker and keeps its answer in memory. Knows
uvicorn's protocol class and its transport, not the meaning of requests.
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
"""Bytes that a client has to read within the time limit; a byte now and then does not count."""

HEAD_S = 20.0
HEAD_BYTES = 64 * 2**10
HEADER_LINES = 100
LINE_BYTES = 16 * 2**10
FRAMING_BYTES = 64 * 2**10
"""Most bytes by which chunk sizes, chunk extensions and trailers may exceed the body."""
FRAMING_RUN_BYTES = 16 * 2**10
"""Most bytes of them without a byte of the body in between: one chunk extension, or all trailers."""
PIPELINED = 64
"""Most requests that may be queued on a connection behind the one that is being answered."""
SEND_S = 30.0
UNREAD_BODY_S = 5.0
"""Seconds for which the rest of a refused body is discarded, so that its sender can read the answer."""

_SLICE_BYTES = 8 * 2**10
"""Maximum bytes that the parser gets at a time, which bounds the bytes that it holds unreported."""
_TARGET = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)

_REASONS = {
    400: b"Bad Request",
    408: b"Request Timeout",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


class SlowReaderGuard:
    """Resets `transport` if its client reads less than LEAST_BYTES of the waiting data in `limit_s` seconds.

    `is_standing()` is true while nothing is added to the buffer, so that it shrinks only by reading.
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
        """Start or restart the watch: nothing more is written until the client has read."""
        self.stop()
        self._unread = self._transport.get_write_buffer_size()
        if self._unread and self._is_standing():
            self._timer = self._loop.call_later(self._limit_s, self._look)

    def stop(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """Stop watching for good, and drop the reference to the connection."""
        self.stop()
        self._is_standing = bool  # false

    def _look(self) -> None:
        taken = self._unread - self._transport.get_write_buffer_size()
        if taken < min(LEAST_BYTES, self._unread) and self._is_standing():
            self._reset()
        else:
            self.watch()

    def _reset(self) -> None:
        # Without this the kernel would keep the unread data for as long as the client lives.
        own = self._transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit on each wait, and one error shape for invalid requests.

    Holds at most `most` connections; a client has `send_s` seconds to read LEAST_BYTES of waiting data.
    `refused` gets the address of a refused client, and gives the seconds by which the answer comes later.
    """

    send_s = SEND_S
    most: int | None = None
    refused: Callable[[str], float] | None = None

    _refusal: RequestError | None = None
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
        """Begin to wait for the first head, or refuse one connection too many."""
        super().connection_made(transport)
        self._guard = SlowReaderGuard(transport, self.loop, self.send_s, self._is_standing)
        self.app = self._watched(self.app)
        if self.most is not None and len(self.connections) > self.most:
            self._refusal = RequestError(
                f"this server already has {self.most} connections", status=503, code="too_many_connections"
            )
            self._answer_refusal()  # at once: one that waits would be one more
        else:
            self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and count bytes of incomplete heads and of chunk framing."""
        rest = memoryview(data)
        while rest and not self._is_refused:
            self._feed(bytes(rest[:_SLICE_BYTES]))
            rest = rest[_SLICE_BYTES:]
        self._idle_again()

    def _feed(self, data: bytes) -> None:
        due, body, read = self._late, self.scope if self._in_body else None, self._body_bytes
        super().data_received(data)
        if self._is_refused:
            return
        # A head or body that began or ended inside this slice is not counted; a slice is small.
        if due is not None and due is self._late:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431, "header_too_large", f"the headers have more than {HEAD_BYTES} bytes")
        elif body is not None and self._in_body and body is self.scope:
            self._count_framing(len(data), self._body_bytes - read)
        elif len(self.pipeline) > PIPELINED:
            self._refuse(400, "too_many_requests", f"more than {PIPELINED} requests arrived before an answer")

    def _count_framing(self, fed: int, body: int) -> None:
        """Count a slice of `fed` bytes, of which `body` were bytes of the body."""
        self._framing += fed - body
        self._framing_run = 0 if body else self._framing_run + fed
        if self._framing_run > FRAMING_RUN_BYTES:
            self._refuse(431, "trailer_too_large", "the trailers or a chunk extension are too large")
        elif self._framing > FRAMING_BYTES + self._body_bytes:
            self._refuse(400, "chunks_too_small", "the body has too many small chunks")

    def on_message_begin(self) -> None:
        """Begin to wait for the next head on a kept connection."""
        super().on_message_begin()
        self._header_lines = 0
        self._in_body = False
        if self._late is None:
            self._expect_head()

    def on_url(self, url: bytes) -> None:
        """Add a piece of the target; refuse one that is too long."""
        super().on_url(url)
        if len(self.url) > LINE_BYTES:
            self._refuse(414, "target_too_long", f"the target has more than {LINE_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header of the head; ignore trailers, which come after the body."""
        if self._in_body:
            return
        self._header_lines += 1
        if self._header_lines > HEADER_LINES or len(name) + len(value) > LINE_BYTES:
            self._refuse(
                431,
                "header_too_large",
                f"there are more than {HEADER_LINES} headers, or one has more than {LINE_BYTES} bytes",
            )
        elif self._refusal is None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End the wait for the head, and begin to count the body."""
        if self._is_refused:
            return
        self._head_is_there()
        self._in_body = True
        self._body_bytes = self._framing = self._framing_run = 0
        self.scope["state"]["authority"] = _authority(self.url)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count a piece of the body and pass it on."""
        if self._in_body:
            self._body_bytes += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End the body, read or discarded."""
        self._rest_is_there()
        if self._in_body:
            self._in_body = False
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Limit the time in which the rest of a body is discarded that was answered before its end."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._rest = self.loop.call_later(UNREAD_BODY_S, self.transport.close)

    def pause_writing(self) -> None:
        """Watch the client, which has to read before more is written."""
        super().pause_writing()
        self._guard.watch()

    def resume_writing(self) -> None:
        """Resume writing and restart the watch: the client has read."""
        super().resume_writing()
        self._guard.watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all timers and drop all references."""
        self._head_is_there()
        self._rest_is_there()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        if self._running is not None and not self._running.response_complete:
            # uvicorn notifies only the request that came last.
            self._running.disconnected = True
            self._running.message_event.set()
        # References from this object to itself would keep it until a full garbage collection.
        self._guard.end()
        self.app = self.config.loaded_app
        self.pipeline.clear()
        self.cycle = self._running = None  # type: ignore[assignment]

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP, in the shape of every other error."""
        self._refuse(400, "invalid_http", "this is not a valid HTTP request")

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: any client could fill the log with it."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        self._running = cycle
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]

    def _watched(self, app: ASGIApp) -> ASGIApp:
        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            finally:
                # In every case: uvicorn closes an incomplete answer once this has returned.
                self.loop.call_soon(self._guard.watch)

        return watched

    def _is_standing(self) -> bool:
        return self.flow.write_paused or self.transport.is_closing() or not self._is_answering

    def _idle_again(self) -> None:
        """Start uvicorn's keep-alive timer, which it forgets after bytes that are no request."""
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
            HEAD_S, self._refuse, 408, "request_timeout", f"no complete request arrived within {HEAD_S:g} s"
        )

    def _head_is_there(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Refuse once, and read no more; the answer of an address that is refused often comes late."""
        self._head_is_there()
        if self._is_refused:
            return
        self._refusal = RequestError(message, status=status, code=code)
        delay = 0.0 if self.refused is None or self.client is None else self.refused(self.client[0])
        if delay > 0:
            self.transport.pause_reading()
            self._late = self.loop.call_later(delay, self._answer_refusal)
        else:
            self._answer_refusal()

    def _answer_refusal(self) -> None:
        if self.transport.is_closing() or self._refusal is None:
            return
        if not (self._is_answering and self._running and self._running.response_started):
            self.transport.write(_answer(self._refusal))
        self.transport.close()
        self._guard.watch()

    @property
    def _is_refused(self) -> bool:
        return self._refusal is not None or self.transport.is_closing()

    @property
    def _is_answering(self) -> bool:
        return self._running is not None and not self._running.response_complete


def bounded(
    send_s: float, most: int | None = None, refused: Callable[[str], float] | None = None
) -> type[BoundedProtocol]:
    """The protocol with the operator's limits, as a class because uvicorn takes one."""
    later = None if refused is None else staticmethod(refused)
    return type("Protocol", (BoundedProtocol,), {"send_s": send_s, "most": most, "refused": later})


def _authority(target: bytes) -> str | None:
    """The host in a request's target; None for a path, "" for a target that is no HTTP URL."""
    if target.startswith(b"/") or target == b"*":
        return None
    found = _TARGET.match(target)
    return found[1].decode("latin-1") if found else ""


def _answer(error: RequestError) -> bytes:
    body = orjson.dumps(error.to_json())
    head = (
        b"HTTP/1.1 %d %b\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    return head % (error.status, _REASONS[error.status], len(body)) + body
