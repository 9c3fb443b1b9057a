"""Races of unloads and edits that have stopped other servers; the others are in test_memory_loads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from conductor_admin.lifecycle.states import State
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
