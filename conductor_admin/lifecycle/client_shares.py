"""Fair shares of a limited number of places for requests, by client.

A client that takes all it can get still leaves room for a new one: while n clients hold places, each may hold
1/(n + 1) of them. Some places are reserved for administrators, who must get in during a flood.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from conductor_admin.lifecycle.errors import overloaded
from handlers.wire import RequestError

_KEPT_PART = 32
_MOST_KEPT = 16
_RETRY_S = 1.0


class Shares:
    """`most` places for requests, some of them reserved for administrators."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = min(_MOST_KEPT, most // _KEPT_PART)
        self._held: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Places that are in use."""
        return self._held.total()

    @contextmanager
    def place(self, client: str, *, is_admin: bool) -> Iterator[None]:
        """Hold one place of `client` during the block.

        Raises RequestError 429 if the client has its share, 503 if all places are taken.
        """
        if self.taken >= (self._most if is_admin else self._most - self._kept):
            raise overloaded(self._most)
        clients = len(self._held.keys() | {client})
        share = max(1, (self._most - self._kept) // (clients + 1))
        if not is_admin and self._held[client] >= share:
            raise RequestError(
                f"this key has {self._held[client]} requests in progress, which is its share of this server",
                status=429,
                type="rate_limit_error",
                code="share_exceeded",
                retry_after_s=_RETRY_S,
            )
        self._held[client] += 1
        try:
            yield
        finally:
            self._held[client] -= 1
            if not self._held[client]:
                del self._held[client]
