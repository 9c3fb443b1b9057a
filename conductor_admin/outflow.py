"""What a client leaves unread on its connection, and when that is enough to cut it.

Knows a transport and its write buffer. A client that takes nothing costs a generation its worker, and keeps
what was written for it: a closed connection stays open until that is read.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

LEAST_BYTES = 16 * 2**10
"""What a client has to take within the time; one byte now and then is as good as nothing."""


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
