"""A bounded queue for a few slots that is fair between clients: clients get free slots in turn.

Knows clients as words; nothing of the work in a slot. For one event loop only.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from handlers.wire import RequestError

RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """Limits: `running` at once, `waiting` in the queue, `own_waiting` per client, each for `wait_s` seconds.

    One client never gets all slots: one is left for others.
    """

    running: int = 4
    waiting: int = 128
    own_waiting: int = 32
    wait_s: float = 10.0

    @property
    def own_running(self) -> int:
        return max(1, self.running - 1)


class Busy(RequestError):
    """No slot is free: status 429 if the client has used its share, 503 if the queue is full."""


class FairQueue:
    """Gives slots to clients within `bounds`."""

    def __init__(self, bounds: QueueBounds) -> None:
        self._bounds = bounds
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """The waiting futures of each client; the client whose turn it is comes first."""

    @asynccontextmanager
    async def place(self, client: str) -> AsyncGenerator[None, None]:
        """A slot for `client` inside the context; Busy if the queue is full or the wait was too long.

        Cancelling the wait removes it from the queue.
        """
        if self._may_run(client) and client not in self._waiting:
            self._running[client] += 1
        else:
            await self._wait(client)
        try:
            yield
        finally:
            self._leave(client)

    def _leave(self, client: str) -> None:
        self._running[client] -= 1
        if not self._running[client]:
            del self._running[client]
        # Free slots go to the clients whose turn it is.
        while (following := next(filter(self._may_run, self._waiting), None)) is not None:
            own = self._waiting[following]
            turn = own.popleft()
            if own:
                self._waiting.move_to_end(following)
            else:
                del self._waiting[following]
            if not turn.cancelled():
                self._running[following] += 1
                turn.set_result(None)

    def _may_run(self, client: str) -> bool:
        has_room = self._running.total() < self._bounds.running
        return has_room and self._running[client] < self._bounds.own_running

    async def _wait(self, client: str) -> None:
        own = self._waiting.get(client, ())
        if len(own) >= self._bounds.own_waiting:
            raise _full(
                "too many checks of this client are waiting", 429, "rate_limit_error", "too_many_checks"
            )
        if sum(map(len, self._waiting.values())) >= self._bounds.waiting:
            raise _full("too many checks are waiting", 503, "server_error", "server_overloaded")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            async with asyncio.timeout(self._bounds.wait_s):
                await turn
        except BaseException as error:
            self._give_up(client, turn)
            if isinstance(error, TimeoutError):
                raise _full(
                    f"no check process was free within {self._bounds.wait_s:g} s",
                    503,
                    "server_error",
                    "server_overloaded",
                ) from error
            raise

    def _give_up(self, client: str, turn: asyncio.Future[None]) -> None:
        if turn.done() and not turn.cancelled():  # the slot was given at this very moment
            self._leave(client)
            return
        own = self._waiting.get(client, deque())
        if turn in own:
            own.remove(turn)
            if not own:
                del self._waiting[client]


def _full(message: str, status: int, kind: str, code: str) -> Busy:
    return Busy(message, status=status, type=kind, code=code, retry_after_s=RETRY_S)
