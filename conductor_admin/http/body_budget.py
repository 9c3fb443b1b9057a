"""Memory budget for the bodies of all requests: the share of each key, and a reserve for small bodies.

No I/O. A body counts from its first byte until its request ends, because the request keeps its text; a body
that is announced but not sent does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from handlers.wire import RequestError

BUDGET_BYTES = 256 * 2**20
SMALL_BYTES = 256 * 2**10
RESERVE_BYTES = 32 * 2**20
"""Bytes for small bodies only, so that they get through while large ones fill the rest."""

LARGE_OF_A_KEY = 16
"""Most requests with a large body that one key may have at a time."""

_RETRY_S = 1.0


class BodyShare:
    """One request's part of the budget."""

    def __init__(self, budget: BodyBudget, key_id: str | None) -> None:
        self._budget = budget
        self._key_id = key_id
        self.taken = 0
        self.is_large = False
        self.of_large = 0
        """Bytes taken since the body was found to be large."""

    def take(self, size: int) -> None:
        """Take `size` more bytes. Raises 503 if the budget is used up, 429 if the key's share is."""
        if not self.is_large and self.taken + size > SMALL_BYTES:
            self._budget.begin_large(self._key_id)
            self.is_large = True
        if self.is_large:
            self._budget.take_large(self._key_id, size)
            self.of_large += size
        else:
            self._budget.take(size, 0)
        self.taken += size

    def give_back(self) -> None:
        """Return all bytes to the budget."""
        self._budget.give_back(self.taken)
        if self.is_large:
            self._budget.end_large(self._key_id, self.of_large)


class BodyBudget:
    """Counts the bytes of all bodies in memory, and the large bodies of each key."""

    def __init__(self) -> None:
        self.used = 0
        self._large: Counter[str] = Counter()
        self._large_bytes: Counter[str] = Counter()

    @contextmanager
    def share(self, key_id: str | None) -> Iterator[BodyShare]:
        """The share of one request of that key; without a key (`None`) only the whole budget limits it."""
        share = BodyShare(self, key_id)
        try:
            yield share
        finally:
            share.give_back()

    def take(self, size: int, kept: int) -> None:
        """Take bytes, but leave `kept` bytes free. Raises RequestError 503."""
        if self.used + size > BUDGET_BYTES - kept:
            raise RequestError(
                "other requests use all the memory for request bodies; try again",
                status=503,
                type="server_error",
                code="bodies_too_large_together",
                retry_after_s=_RETRY_S,
            )
        self.used += size

    def take_large(self, key_id: str | None, size: int) -> None:
        """Take bytes of a large body: while n keys hold some, each may hold 1/(n + 1) of them."""
        most = BUDGET_BYTES - RESERVE_BYTES
        if key_id is not None:
            keys = len(self._large_bytes.keys() | {key_id})
            if self._large_bytes[key_id] + size > most // (keys + 1):
                raise RequestError(
                    "this key's requests use its whole share of the memory for request bodies",
                    status=429,
                    type="rate_limit_error",
                    code="share_exceeded",
                    retry_after_s=_RETRY_S,
                )
        self.take(size, RESERVE_BYTES)
        if key_id is not None:
            self._large_bytes[key_id] += size

    def give_back(self, size: int) -> None:
        """Return bytes to the budget."""
        self.used -= size

    def begin_large(self, key_id: str | None) -> None:
        """Count a large body of the key. Raises RequestError 429 for too many."""
        if key_id is None:
            return
        if self._large[key_id] >= LARGE_OF_A_KEY:
            raise RequestError(
                f"this key may send {LARGE_OF_A_KEY} requests of more than {SMALL_BYTES} bytes at a time",
                status=429,
                type="rate_limit_error",
                code="rate_limit_exceeded",
                retry_after_s=_RETRY_S,
            )
        self._large[key_id] += 1

    def end_large(self, key_id: str | None, size: int) -> None:
        """Stop counting a large body of the key and its `size` bytes."""
        if key_id is not None:
            self._large -= Counter({key_id: 1})
            self._large_bytes -= Counter({key_id: size})
