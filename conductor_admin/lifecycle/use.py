"""Use of a worker set: requests that wait for it, rows that claim it, and the end of its idle time.

Only this module writes a UseState. It lies below `loads` and `leases`, because a request, a load that ended,
an operator and an edit of SETTINGS.md each change the use of a set.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from conductor_admin.memory.usage import Idleness, Use


@dataclass(slots=True, eq=False)
class UseState:
    """`waiting` counts requests without a worker, `recent` all requests, recent ones more.

    `claims` are the rows that asked for the set. `expires` is the monotonic time of its end by idleness,
    `last_used` the Unix time of the last end of a request. `drained` is set when its last request ends, or
    when an unload is to wait for requests no longer.
    """

    waiting: int = 0
    recent: Use = field(default_factory=Use)
    claims: set[str] = field(default_factory=set)
    expires: float = math.inf
    last_used: float | None = None
    drained: asyncio.Event = field(default_factory=asyncio.Event)

    def count_request(self, now: float) -> None:
        self.recent = self.recent.another(now)

    def begin_wait(self) -> None:
        """Count a request that waits; no other set evicts this one for it."""
        self.waiting += 1

    def end_wait(self) -> None:
        self.waiting -= 1

    def begin_answer(self, slug: str) -> None:
        """Claim the set for the row of a request that has a worker now."""
        self.claims.add(slug)
        self.drained.clear()

    def end_answer(self, *, is_last: bool) -> None:
        """Note the end of a request; `is_last` if no other one is in flight."""
        self.last_used = time.time()
        if is_last:
            self.drained.set()

    def end_drain(self) -> None:
        """Let an unload wait for requests no longer."""
        self.drained.set()

    def begin_idle_time(
        self, idleness: Idleness, keep_alive_s: float | None = None, *, may_shorten: bool = True
    ) -> None:
        """Let the idle time begin now, with the set's own length or that of the last request."""
        self.expires = idleness.expires(time.monotonic(), keep_alive_s, may_shorten=may_shorten)

    def claim(self, slugs: Iterable[str]) -> None:
        self.claims.update(slugs)

    def drop_claim(self, slug: str) -> None:
        self.claims.discard(slug)

    def drop_claims(self) -> None:
        self.claims.clear()

    def keep_claims(self, slugs: Collection[str]) -> None:
        """Drop the claims of all rows but `slugs`."""
        self.claims.intersection_update(slugs)

    def hand_over_claims(self, slugs: Collection[str], to: UseState) -> None:
        """Let another set have the claims of the rows `slugs`."""
        to.claims |= self.claims.intersection(slugs)
        self.claims.difference_update(slugs)
