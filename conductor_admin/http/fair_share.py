"""Fair shares of processor time: an account that uses much waits while others are served.

An account is a key, or the network of a client without a valid key. It pays for what its requests use in the
gateway and in the checker; while another account is active, it may use its share of the machine and a short
burst. Then its next requests wait, before their bodies are read. An account that is alone never waits. Times
are seconds of a monotonic clock. For one event loop only.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from conductor_admin.http.networks import network_of
from handlers.cpu_account import cpu_account
from handlers.wire import RequestError

ACTIVE_S = 5.0
"""Seconds for which an account is active after it has used the processor; open connections do not count."""
BURST_S = 0.1
"""Processor time that an account may use at once: about a hundred small requests."""
LONGEST_WAIT_S = 5.0
"""Longest wait for what was used already; what is owed beyond is forgotten."""
ADDRESS_FRACTION = 0.25
"""Share of all clients without a key, as a fraction of the share of all keys."""
REQUEST_S = 0.0003
"""Processor time of a request outside its task: connection, head, access log. An estimate: with it the sum is
0.8 to 1.2 times what was measured for the process, for a probe 1.5 times."""
WAITING = 1024
"""Most requests of one key that wait."""
WAITING_OF_ADDRESS = 64
ACCOUNTS = 4096
"""Most accounts that are remembered; the least recent idle ones go first."""

_COUNT_S = 0.2  # seconds between two counts of the active accounts
_LOOK_S = 0.5  # an account may become the only active one while its requests wait


def capacity(cores: int) -> float:
    """Processor time in each second for all keys together while several accounts are active.

    Workers need the cores too, and their steps wait for the slowest thread: an eighth of the cores, and never
    the whole of the gateway's loop. With a fifth the p95 beside bodies of 8 MB was 1.6 to 1.8 times that of
    alone.
    """
    return min(0.8, cores / 8)


@dataclass(slots=True, eq=False)
class Account:
    """Use of one key or network; `balance` is negative while it owes processor time."""

    is_address: bool
    clock: Callable[[], float]
    at: float
    balance: float = BURST_S
    seen: float = -ACTIVE_S
    running: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    timer: asyncio.TimerHandle | None = None

    def charge(self, seconds: float) -> None:
        """Take processor time."""
        self.balance -= seconds
        self.seen = self.clock()


def open_account(address: str) -> str:
    """Name of the account that pays for routes that need no key."""
    return f"open {network_of(address)}"


def refused_account(address: str) -> str:
    """Name of the account that pays for requests that are refused before their key is known."""
    return f"refused {network_of(address)}"


class FairShare:
    """The accounts of one gateway; `held_back` is called for each request that has to wait."""

    def __init__(
        self,
        cores: int,
        clock: Callable[[], float] = time.monotonic,
        held_back: Callable[[], None] = lambda: None,
    ) -> None:
        self.held_back = held_back
        self._capacity = capacity(cores)
        self._clock = clock
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._keys = self._addresses = 0  # active ones, as counted last
        self._counted_at = -_COUNT_S

    @contextmanager
    def charged(self, name: str, *, is_address: bool = False) -> Generator[Account, None, None]:
        """The account, active during the block; it pays for the current task and tasks begun in it."""
        account = self._account(name, is_address)
        account.running += 1
        cpu_account.set(account)  # for the rest of the task: its last step is charged after the block
        try:
            yield account
        finally:
            account.charge(REQUEST_S)
            account.running -= 1
            if account.waiting:
                self._let_next_go(account)

    async def turn(self, account: Account) -> bool:
        """Wait until the account may use more; True if it had to.

        Raises RequestError 429 if too many of its requests wait.
        """
        if not account.waiting and self.wait_s(account) <= 0:
            return False
        if len(account.waiting) >= (WAITING_OF_ADDRESS if account.is_address else WAITING):
            raise RequestError(
                "too many requests of this client wait already",
                status=429,
                type="rate_limit_error",
                code="too_many_requests",
                retry_after_s=1,
            )
        self.held_back()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        account.waiting.append(turn)
        self._look_again(account)
        try:
            await turn
        finally:
            if turn in account.waiting:  # the client has left
                account.waiting.remove(turn)
        return True

    async def refusing(self, address: str) -> None:
        """Wait until a client at `address` may be refused."""
        with self.charged(refused_account(address), is_address=True) as account:
            await self.turn(account)

    def delay_of_refusal(self, address: str) -> float:
        """Seconds by which a refusal has to come later; charges for it. For refusals outside a task."""
        account = self._account(refused_account(address), is_address=True)
        account.charge(REQUEST_S)
        return max(0.0, self.wait_s(account))

    def wait_s(self, account: Account) -> float:
        """Seconds until the account may use more, as things are now; 0 or less if it may now."""
        now = self._clock()
        rate = self._rate(account, now)
        since, account.at = now - account.at, now
        if rate is None:
            account.balance = max(0.0, account.balance)
            return 0.0
        account.balance = max(-LONGEST_WAIT_S * rate, min(BURST_S, account.balance + since * rate))
        return -account.balance / rate

    def _rate(self, account: Account, now: float) -> float | None:
        """Share of the account in processor seconds a second; None if no other account is active."""
        if now >= self._counted_at + _COUNT_S:
            active = [one for one in self._accounts.values() if now - one.seen < ACTIVE_S]
            self._addresses = sum(one.is_address for one in active)
            self._keys, self._counted_at = len(active) - self._addresses, now
        if account.is_address:
            return self._capacity * ADDRESS_FRACTION / max(1, self._addresses) if self._keys else None
        return self._capacity / self._keys if self._keys > 1 else None

    def _account(self, name: str, is_address: bool) -> Account:
        """The account, active from now on."""
        now, account = self._clock(), self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = Account(is_address, self._clock, now)
            if len(self._accounts) > ACCOUNTS:
                idle = next((key for key, one in self._accounts.items() if not one.running), None)
                if idle is not None:
                    del self._accounts[idle]
        self._accounts.move_to_end(name)
        if now - account.seen >= ACTIVE_S:  # it was not counted as active
            self._keys += not account.is_address
            self._addresses += account.is_address
        account.seen = now
        return account

    def _look_again(self, account: Account) -> None:
        if account.timer is None and account.waiting:
            wait = min(_LOOK_S, max(0.0, self.wait_s(account)))
            account.timer = asyncio.get_running_loop().call_later(wait, self._due, account)

    def _due(self, account: Account) -> None:
        account.timer = None
        self._let_next_go(account)
        self._look_again(account)

    def _let_next_go(self, account: Account) -> None:
        """Let one request go: what it uses decides when the next may."""
        while account.waiting and self.wait_s(account) <= 0:
            turn = account.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
