"""One key's flood leaves places for other keys and administrators; only permitted keys end a set."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_admin.lifecycle.client_shares import Shares
from conductor_admin.lifecycle.states import State
from handlers.wire import RequestError
from tests.conductor_admin.gateway_rig import OWNER_TOKEN, MakeRig, Rig
from tests.conductor_admin.key_rig import bearer
from tests.conductor_admin.test_keys_rules import Held, ask, code, key


def fill(shares: Shares, client: str, stack: contextlib.ExitStack, *, is_admin: bool = False) -> int:
    """Take places of `client` until none is left; return their number."""
    taken = 0
    with contextlib.suppress(RequestError):
        while True:
            stack.enter_context(shares.place(client, is_admin=is_admin))
            taken += 1
    return taken


def test_a_flood_leaves_room_for_each_client_that_comes() -> None:
    shares = Shares(512)
    with contextlib.ExitStack() as stack:
        assert fill(shares, "flood", stack) == 248
        assert fill(shares, "second", stack) > 100
        assert fill(shares, "third", stack) > 50
        assert fill(shares, "admin", stack, is_admin=True) >= 16
        assert shares.taken == 512
    assert shares.taken == 0


def test_the_two_refusals_say_whose_fault_it_is() -> None:
    shares = Shares(512)
    with contextlib.ExitStack() as stack:
        fill(shares, "flood", stack)
        with (
            pytest.raises(RequestError, match="its share of this server") as own,
            shares.place("flood", is_admin=False),
        ):
            pass
        fill(shares, "admin", stack, is_admin=True)
        with (
            pytest.raises(RequestError, match="the server is busy") as all_taken,
            shares.place("new", is_admin=True),
        ):
            pass
    assert (own.value.status, all_taken.value.status) == (429, 503)
    assert own.value.retry_after_s
    assert all_taken.value.retry_after_s


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=200), st.integers(1, 64))
def test_places_are_never_more_than_there_are(steps: list[tuple[str, bool]], most: int) -> None:
    shares, held = Shares(most), list[tuple[str, contextlib.ExitStack]]()
    for client, takes in steps:
        if takes:
            stack = contextlib.ExitStack()
            with contextlib.suppress(RequestError):
                stack.enter_context(shares.place(client, is_admin=False))
                held.append((client, stack))
        elif held:
            held.pop(0)[1].close()
        assert shares.taken == len(held) <= most
    for _, stack in held:
        stack.close()
    assert shares.taken == 0


async def test_a_key_that_floods_keeps_no_other_key_out(make_rig: MakeRig) -> None:
    async with make_rig(queue_size=8) as rig:
        flood, other = key(rig, name="flood"), key(rig, name="other")
        held = Held(rig)
        running = [asyncio.create_task(ask(rig, flood)) for _ in range(4)]
        await rig.until(lambda: len(list(rig.gateway.telemetry.traces.running())) == 4)
        refused = await ask(rig, flood)
        assert (refused.status_code, code(refused)) == (429, "share_exceeded")
        assert refused.headers["retry-after"] == "1"
        running += [asyncio.create_task(ask(rig, who)) for who in (other, bearer(OWNER_TOKEN))]
        await rig.until(lambda: len(list(rig.gateway.telemetry.traces.running())) == 6)
        held.may_end.set()
        assert {(await task).status_code for task in running} == {200}
        assert (await ask(rig, flood)).status_code == 200


@pytest.mark.parametrize(
    ("rules", "is_ended"),
    [({}, True), ({"may_evict": False}, False), ({"categories": ["translation"]}, False)],
)
async def test_only_who_may_ends_a_set_by_keep_alive(rig: Rig, rules: dict[str, Any], is_ended: bool) -> None:
    who = key(rig, **rules)
    body = {"category": "translation", "prompt": "x", "keep_alive": 0}
    assert (await rig.client.post("/generate", json=body, headers=who)).status_code == 200
    if is_ended:
        await rig.until(lambda: rig.lifecycle.view("translation").state is State.UNAVAILABLE)
    else:
        assert rig.lifecycle.view("translation").state is State.READY
        expires = rig.lifecycle.view("translation").expires_at
        assert expires is not None
