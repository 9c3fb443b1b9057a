"""Shares of processor time: who uses much waits while others are served, and nobody waits alone."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import pytest

from conductor_admin.http.body import parsed
from conductor_admin.http.fair_share import (
    ACCOUNTS,
    ACTIVE_S,
    BURST_S,
    LONGEST_WAIT_S,
    WAITING_OF_ADDRESS,
    Account,
    FairShare,
    capacity,
    refused_account,
)
from conductor_admin.http.protocol import BoundedProtocol
from handlers.cpu_account import cpu_account
from handlers.diagnostics.task_steps import StepClock
from handlers.off_loop import MUCH, off_loop
from handlers.sandbox.checker import Checker
from handlers.wire import GenerateRequest, RequestError
from tests.conductor_admin.gateway_rig import OWNER_TOKEN, Rig
from tests.conductor_admin.key_rig import bearer
from tests.conductor_admin.raw_http import connection, statuses
from tests.conductor_admin.test_connection_bounds import CHUNKED
from tests.conductor_admin.test_keys_rules import Held, ask, code, key

RATE = capacity(2) / 2
"""Share of each of two keys on two cores, in processor seconds a second."""


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def used(shares: FairShare, name: str, seconds: float, *, is_address: bool = False) -> Account:
    """The account of `name` after a request that used `seconds`."""
    with shares.charged(name, is_address=is_address) as account:
        account.charge(seconds)
    return account


def owe(shares: FairShare, account: Account, seconds: float) -> None:
    """Charge an account whose balance is that of now."""
    shares.wait_s(account)
    account.charge(seconds)


def test_an_account_that_is_alone_never_waits_and_owes_nothing_later() -> None:
    clock = Clock()
    shares = FairShare(2, clock)
    assert shares.wait_s(used(shares, "one", 100)) == 0
    used(shares, "other", 0)
    clock.now += 1
    assert shares.wait_s(used(shares, "one", 0)) <= 0


def test_beside_another_an_account_waits_for_what_it_used_beyond_its_burst() -> None:
    clock = Clock()
    shares = FairShare(2, clock)
    used(shares, "other", 0)
    clock.now += 1
    account = used(shares, "one", 0)
    assert shares.wait_s(account) <= 0
    account.charge(BURST_S)
    account.charge(0.3)
    wait = shares.wait_s(account)
    assert wait == pytest.approx(0.3 / RATE, rel=0.05)
    assert shares.wait_s(used(shares, "other", 0.01)) <= 0  # the other pays for itself alone
    clock.now += wait + 0.01
    assert shares.wait_s(account) <= 0


def test_a_wait_has_an_end_and_an_idle_account_is_not_counted() -> None:
    clock = Clock()
    shares = FairShare(2, clock)
    used(shares, "other", 0)
    clock.now += 1
    account = used(shares, "one", 100)
    assert shares.wait_s(account) == pytest.approx(LONGEST_WAIT_S)
    clock.now += ACTIVE_S
    assert shares.wait_s(account) == 0


def test_an_idle_connection_slows_nobody() -> None:
    clock = Clock()
    shares = FairShare(2, clock)
    with shares.charged("idle stream"):
        clock.now += ACTIVE_S
        assert shares.wait_s(used(shares, "one", 100)) == 0
        clock.now += 1
        used(shares, "idle stream", 0.001)  # it goes on
        clock.now += 1
        account = used(shares, "one", 0)
        account.charge(1)
        assert shares.wait_s(account) > 0


def test_all_addresses_together_get_a_fraction_of_what_keys_get() -> None:
    clock = Clock()
    shares = FairShare(2, clock)
    with ExitStack() as stack:
        for name in ("a", "b", "c", "d"):
            stack.enter_context(shares.charged(f"refused {name}", is_address=True))
        stack.enter_context(shares.charged("key"))
        clock.now += 1
        account = used(shares, "refused a", 0, is_address=True)
        owe(shares, account, BURST_S + 0.01)
        assert 0.01 / shares.wait_s(account) == pytest.approx(capacity(2) * 0.25 / 4, rel=0.1)
        used(shares, "key", 50)
        assert shares.wait_s(used(shares, "key", 0)) == 0  # addresses do not slow the only key


def test_only_idle_accounts_are_forgotten() -> None:
    shares = FairShare(2, Clock())
    with shares.charged("kept") as kept:
        for number in range(ACCOUNTS + 10):
            used(shares, str(number), 0)
        with shares.charged("kept") as again:
            assert again is kept


async def test_waiting_requests_go_in_order_and_one_that_leaves_gives_up_its_turn() -> None:
    shares, held = FairShare(2), []
    shares.held_back = lambda: held.append(1)
    gone: list[int] = []

    async def request(number: int) -> None:
        with shares.charged("flood") as account:
            assert await shares.turn(account)
            gone.append(number)

    used(shares, "other", 0)
    with shares.charged("flood") as account:
        owe(shares, account, BURST_S + 0.02)
        tasks = [asyncio.create_task(request(number)) for number in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks, return_exceptions=True)
    assert gone == [0, 2, 3]
    assert len(held) == 4
    assert account.running == 0


async def test_too_many_waiting_requests_are_refused() -> None:
    shares = FairShare(2)
    used(shares, "key", 0)
    with shares.charged("refused x", is_address=True) as account:
        owe(shares, account, 10)
        tasks = [asyncio.create_task(shares.turn(account)) for _ in range(WAITING_OF_ADDRESS)]
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as refused:
            await shares.turn(account)
        assert (refused.value.status, refused.value.code) == (429, "too_many_requests")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert not account.waiting


def test_steps_threads_and_checks_are_paid_for() -> None:
    """On the gateway's own loop; each is one of the ways in which a request uses the processor."""

    async def burn() -> None:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass

    async def request(account: Account, way: str) -> None:
        cpu_account.set(account)
        if way == "step":
            await asyncio.create_task(burn())
        elif way == "thread":
            await off_loop(MUCH, sum, range(1_000_000))
        elif way == "body":
            await parsed(b"x" * 100_000, lambda: sum(range(1_000_000)))
        else:
            checker = Checker()
            try:
                asked = GenerateRequest(id="r", engine="mathematical_reasoning", prompt="What is 2+2?")
                await checker.findings(asked, "It is \\boxed{4}.")
            finally:
                await asyncio.to_thread(checker.close)

    async def main() -> dict[str, float]:
        StepClock(1e9, lambda step: None).install(asyncio.get_running_loop())
        accounts = {way: Account(False, time.monotonic, 0.0) for way in ("step", "thread", "body", "check")}
        for way, account in accounts.items():
            await asyncio.create_task(request(account, way))
        return {way: BURST_S - account.balance for way, account in accounts.items()}

    paid = asyncio.run(main())
    assert all(seconds >= 0.001 for seconds in paid.values()), paid
    assert paid["step"] >= 0.02
    assert len(paid) == 4


async def test_a_flood_of_one_key_waits_beside_another_and_an_operator_never_does(rig: Rig) -> None:
    flood, other = key(rig, name="flood"), key(rig, name="other")
    assert (await ask(rig, other)).status_code == 200
    shares = rig.gateway.shares
    name = next(one.id for one in rig.gateway.keys.all if one.name == "flood")
    with shares.charged(name) as account:
        owe(shares, account, 1000)
        waiting = asyncio.create_task(rig.client.post("/admin/reload", headers=flood))
        await rig.until(lambda: len(account.waiting) == 1)
        assert (await ask(rig, other)).status_code == 200
        reload = await rig.client.post("/admin/reload", headers=bearer(OWNER_TOKEN))
        assert reload.status_code == 200
        assert not waiting.done()
        account.balance = BURST_S
        async with asyncio.timeout(5):
            assert (await waiting).status_code == 403


async def test_a_key_that_is_revoked_while_its_request_waits_is_refused(rig: Rig) -> None:
    flood, other = key(rig, name="flood"), key(rig, name="other")
    assert (await ask(rig, other)).status_code == 200
    name = next(one.id for one in rig.gateway.keys.all if one.name == "flood")
    with rig.gateway.shares.charged(name) as account:
        owe(rig.gateway.shares, account, 1000)
        waiting = asyncio.create_task(ask(rig, flood))
        await rig.until(lambda: len(account.waiting) == 1)
        await rig.gateway.keys.revoke("flood")
        account.balance = BURST_S
        async with asyncio.timeout(5):
            refused = await waiting
    assert (refused.status_code, code(refused)) == (401, "invalid_api_key")


async def test_who_is_refused_waits_and_keeps_nobody_from_probes_and_keys(rig: Rig) -> None:
    other = key(rig, name="other")
    held = Held(rig)
    running = asyncio.create_task(ask(rig, other))
    await rig.until(lambda: len(list(rig.gateway.telemetry.traces.running())) == 1)
    with rig.gateway.shares.charged(refused_account("127.0.0.1"), is_address=True) as account:
        owe(rig.gateway.shares, account, 1000)
        waiting = asyncio.create_task(rig.client.post("/generate", json={"prompt": "x"}))
        await rig.until(lambda: len(account.waiting) == 1)
        assert (await rig.client.get("/health/live")).status_code == 200
        held.may_end.set()
        assert (await running).status_code == 200
        account.balance = BURST_S
        async with asyncio.timeout(5):
            assert (await waiting).status_code == 401


@pytest.mark.parametrize(
    "bad", ["nonsense\r\n\r\n", "GET / HTTP/1.1\r\nx: " + "y" * 70_000, f"{CHUNKED}\r\nz\r\n"]
)
async def test_a_refusal_of_bad_http_is_paid_for_and_comes_late(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    asked: list[str] = []

    def delay(address: str) -> float:
        asked.append(address)
        return 0.2

    monkeypatch.setattr(BoundedProtocol, "refused", staticmethod(delay))
    began = time.monotonic()
    async with connection(rig.url) as (reader, writer):
        writer.write(bad.encode() + b"more")
        answer = await reader.read()
    assert statuses(answer) in ([400], [431])
    assert asked == ["127.0.0.1"]
    assert time.monotonic() - began >= 0.2  # it waited: no upper limit is asked
    async with connection(rig.url) as (_, writer):
        writer.write(bad.encode())
        await rig.until(lambda: len(asked) == 2)
    # The client left before its refusal: nothing is left of it.
    assert (await rig.client.get("/health/live")).status_code == 200


async def test_a_foreign_host_is_refused_at_the_cost_of_its_address(rig: Rig) -> None:
    other = key(rig, name="other")
    assert (await ask(rig, other)).status_code == 200
    with rig.gateway.shares.charged(refused_account("127.0.0.1"), is_address=True) as account:
        owe(rig.gateway.shares, account, 1000)
        waiting = asyncio.create_task(rig.client.get("/health/live", headers={"host": "evil.example"}))
        await rig.until(lambda: len(account.waiting) == 1)
        account.balance = BURST_S
        async with asyncio.timeout(5):
            assert (await waiting).status_code == 421


def test_refusals_outside_a_task_come_later_and_later() -> None:
    clock = Clock()
    shares = FairShare(2, clock)
    assert [shares.delay_of_refusal("10.0.0.1") for _ in range(1000)] == [0.0] * 1000  # nobody else is there
    used(shares, "key", 0)
    delays = [shares.delay_of_refusal("10.0.0.1") for _ in range(1000)]
    assert delays[0] < 0.01
    assert delays == sorted(delays)
    assert delays[-1] > 1
    assert shares.delay_of_refusal("10.0.0.2") == 0.0
