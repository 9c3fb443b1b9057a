"""Connections to the gateway: the head of a request has to come within a time and a size.

uvicorn bounds neither with its C parser: a connection that says nothing, or a header without an end, would be
held for ever. Knows uvicorn's protocol class; what a request means is not looked at.
"""

from __future__ import annotations

import asyncio

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from handlers.wire import RequestError

HEAD_S = 20.0
HEAD_BYTES = 64 * 2**10

_REASONS = {408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which answers 408 or 431 and closes where a head is late or large."""

    _late: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is due."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head that is not complete yet."""
        if self.transport.is_closing():
            return
        due = self._late
        super().data_received(data)
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

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._head_is_there()
        super().connection_lost(exc)

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
        if not self._is_answering:
            self.transport.write(_answer(RequestError(message, status=status, code=code)))
        self.transport.close()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


def _answer(error: RequestError) -> bytes:
    body = orjson.dumps(error.body())
    head = (
        b"HTTP/1.1 %d %b\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    return head % (error.status, _REASONS[error.status], len(body)) + body
