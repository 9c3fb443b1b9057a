"""Races of unloads and edits that have stopped other servers; the others are in test_memory_loads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from conductor_admin.lifecycle.states import State
from handlers.wire import RequestError
from tests.conductor_admin.gateway_rig import GB, SETTINGS, MakeRig, Rig

TRANSLATION = "translation"
OLD, NEW = "0123456789ab", "ba9876543210"


async def ask(rig: Rig, category: str = TRANSLATION) -> Any:
    return await rig.client.post("/generate", json={"prompt": "x", "category": category})


@asynccontextmanager
async def constant_load(rig: Rig) -> AsyncIterator[None]:
    """Four clients that ask again as soon as they are answered; every answer must be one."""
    stop = asyncio.Event()

    async def hammer() -> None:
        while not stop.is_set():
            answer = await ask(rig)
            assert answer.status_code == 200, answer.text

    hammers = [asyncio.create_task(hammer()) for _ in range(4)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*hammers)


@pytest.mark.parametrize("budget", [10 * GB, int(1.5 * GB)], ids=["both fit", "one at a time"])
async def test_race_a_changed_row_under_constant_load_is_replaced(make_rig: MakeRig, budget: int) -> None:
    async with make_rig(budget=budget, max_wait_s=20) as rig:
        rig.torchserve.memory = GB
        async with constant_load(rig):
            await rig.until(lambda: rig.lifecycle.view(TRANSLATION).state is State.READY)
            rig.builder.version = NEW
            (rig.state.root / "SETTINGS.md").write_text(SETTINGS.replace("models/other", "models/better"))
            assert (await rig.client.post("/admin/reload")).json()["rebuilt"] == [TRANSLATION]
            await rig.until(lambda: rig.lifecycle.view(TRANSLATION).version == NEW)
            await rig.until(lambda: rig.torchserve.unregistered == [TRANSLATION])
        assert rig.torchserve.registered == [f"{TRANSLATION}-{OLD}.mar", f"{TRANSLATION}-{NEW}.mar"]


async def test_race_a_request_that_arrives_while_the_set_stops_is_answered_by_its_next_life(rig: Rig) -> None:
    assert (await ask(rig)).status_code == 200
    rig.torchserve.may_unload.clear()
    unloading = asyncio.create_task(rig.client.post(f"/admin/models/{TRANSLATION}/unload"))
    await rig.until(lambda: rig.lifecycle.view(TRANSLATION).state is State.UNLOADING)
    stopping = rig.torchserve.workers(TRANSLATION)[0]
    late = asyncio.create_task(ask(rig))
    queued = rig.gateway.stats.categories
    await rig.until(lambda: queued()[TRANSLATION]["queued"] == 1)
    rig.torchserve.may_unload.set()
    assert (await unloading).status_code == (await late).status_code == 200
    assert len(stopping.requests) == 1
    assert len(rig.torchserve.registered) == 2


async def test_race_a_drain_is_cut_short_while_a_request_waits_for_the_next_life(rig: Rig) -> None:
    """Two operators give up at once, and neither the memory nor the set comes back before its workers end."""

    async def endless(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": "begun"}
        await asyncio.Event().wait()

    answers, rig.torchserve.script = rig.torchserve.script, endless
    cut_off = asyncio.create_task(ask(rig))
    await rig.until(lambda: bool([w for w in rig.torchserve.workers(TRANSLATION) if w.requests]))
    rig.torchserve.script = answers
    rig.torchserve.may_unload.clear()
    unload = f"/admin/models/{TRANSLATION}/unload"
    unloads = [asyncio.create_task(rig.client.post(unload))]
    await rig.until(lambda: rig.lifecycle.view(TRANSLATION).state is State.UNLOADING)
    late = asyncio.create_task(ask(rig))
    queued = rig.gateway.stats.categories
    await rig.until(lambda: queued()[TRANSLATION]["queued"] == 1)
    unloads += [asyncio.create_task(rig.client.post(f"{unload}?mode=now")) for _ in range(2)]
    entry = rig.lifecycle._table.named(TRANSLATION)
    await rig.until(lambda: not entry.load.workers)
    for _ in range(20):
        await asyncio.sleep(0)
        assert entry.load.state is State.UNLOADING
        assert entry.memory.held
    rig.torchserve.may_unload.set()
    assert {(await one).status_code for one in unloads} == {200}
    assert (await late).status_code == 200
    assert (await cut_off).json()["error"]["code"] == "model_unloaded"
    assert rig.torchserve.unregistered == [TRANSLATION]


async def test_race_a_load_that_is_ended_before_its_first_step_leaves_nothing(rig: Rig) -> None:
    loading = asyncio.create_task(rig.lifecycle.load(TRANSLATION))
    await asyncio.sleep(0)
    assert rig.lifecycle.view(TRANSLATION).state is State.LOADING
    await rig.lifecycle.unload(TRANSLATION, TRANSLATION, force=True, drain=True)
    assert rig.lifecycle.view(TRANSLATION).state is State.UNAVAILABLE
    with pytest.raises(RequestError, match="was unloaded"):
        await loading
    assert not rig.torchserve.registered
