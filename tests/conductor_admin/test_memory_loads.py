"""Loads and evictions within a memory budget, over the fake TorchServe; races known from other servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from conductor_admin.lifecycle import heartbeat
from conductor_admin.lifecycle.states import State
from conductor_admin.memory import policy
from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import GB, MakeRig, Rig

TABLE = """
|Category/Area|Best Open Source Model|VRAM/RAM Requirements|Technical Model Name|Stay Loaded|Precision|
|-|-|-|-|-|-|
| A | a | ~4GB | `models/a.gguf` | false | Q4_1 |
| B | b | ~4GB | `models/b.gguf` | false | Q4_1 |
| C | c | ~4GB | `models/c.gguf` | false | Q4_1 |
"""
RESIDENT = TABLE + "| R | r | ~6GB | `models/r.gguf` | true | Q4_1 |\n"
YIELD = TABLE + "| Y | y | ~7GB | `models/y.gguf` | yield | Q4_1 |\n"
ONE, TWO = 5 * GB, 10 * GB


@contextlib.asynccontextmanager
async def crowd(make_rig: MakeRig, **how: Any) -> AsyncIterator[Rig]:
    """A gateway whose workers take as much as their rows say."""
    async with make_rig(**how) as rig:
        rig.torchserve.memory = 4 * GB
        yield rig


async def ask(rig: Rig, category: str, **fields: Any) -> Any:
    return await rig.client.post("/generate", json={"prompt": "x", "category": category, **fields})


def state_of(rig: Rig, name: str) -> State:
    return rig.lifecycle.view(name).state


async def settled(rig: Rig, name: str, state: State) -> None:
    """Reconcile like the gateway's heartbeat until the set is in `state`."""
    async with asyncio.timeout(5):
        while state_of(rig, name) is not state:
            await rig.lifecycle.reconcile()
            await asyncio.sleep(0.01)


class Held:
    """Script of a worker whose answers wait until they are released."""

    def __init__(self, rig: Rig) -> None:
        self.may_end = asyncio.Event()
        rig.torchserve.script = self._answer

    async def _answer(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        await self.may_end.wait()
        yield done("late")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drain busy sets for others without delay."""
    monkeypatch.setattr(policy, "GROUP_S", 0.0)


async def test_sets_that_fit_together_stay_loaded(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=TABLE, budget=TWO) as rig:
        for name in ("a", "b", "a", "b"):
            assert (await ask(rig, name)).status_code == 200
        assert len(rig.torchserve.registered) == 2
        assert not rig.torchserve.unregistered


async def test_an_idle_set_makes_room_and_a_swap_is_counted(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=TABLE, budget=TWO) as rig:
        for name in ("a", "a", "a", "b"):
            assert (await ask(rig, name)).status_code == 200
        for name in ("a", "b"):  # a load of the fake takes as long as this machine is busy
            rig.lifecycle._table.named(name).load.seconds = 1.0
        assert (await ask(rig, "c")).status_code == 200
        assert rig.torchserve.unregistered == ["b"]
        stats = (await rig.client.get("/stats")).json()
        assert (stats["swaps"], stats["swaps_avoided"]) == (1, 0)
        assert stats["memory"]["used"] <= TWO


async def test_what_can_never_fit_is_refused_at_once_with_the_figures(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=TABLE, budget=3 * GB) as rig:
        answer = await ask(rig, "a")
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "insufficient_memory")
        assert "needed 4 GB, free 3 GB, evictable 0 B" in error["message"]
        assert "retry-after" not in answer.headers
        assert rig.builder.builds == 0


async def test_resident_sets_are_not_evicted(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=RESIDENT, budget=9 * GB) as rig:
        rig.lifecycle.start()
        await rig.until(lambda: state_of(rig, "r") is State.READY)
        assert (await ask(rig, "a")).json()["error"]["code"] == "insufficient_memory"
        assert not rig.torchserve.unregistered


async def test_a_set_that_yields_goes_for_a_bigger_job_and_comes_back(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=YIELD, budget=TWO) as rig:
        rig.torchserve.memory = 7 * GB
        rig.lifecycle.start()
        await rig.until(lambda: state_of(rig, "y") is State.READY)
        assert (await ask(rig, "a")).status_code == 200
        assert rig.torchserve.unregistered == ["y"]
        await rig.lifecycle.reconcile()
        assert state_of(rig, "y") is State.UNAVAILABLE
        assert (await rig.client.get("/health/ready")).status_code == 200
        assert (await ask(rig, "a", keep_alive=0)).status_code == 200
        await settled(rig, "y", State.READY)
        assert state_of(rig, "a") is State.UNAVAILABLE


async def test_an_idle_set_is_unloaded_after_its_keep_alive(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=TABLE) as rig:
        assert (await ask(rig, "a", keep_alive=0.05)).status_code == 200
        row = (await rig.client.get("/models/a")).json()
        assert row["expires_at"] >= row["last_used"]
        await settled(rig, "a", State.UNAVAILABLE)
        assert rig.torchserve.unregistered == ["a"]


@pytest.mark.parametrize(("keep_alive", "expires"), [(-1, False), (60, True), (None, True)])
async def test_a_keep_alive_shows_when_the_set_expires(
    make_rig: MakeRig, keep_alive: float | None, expires: bool
) -> None:
    async with crowd(make_rig, settings=TABLE) as rig:
        await ask(rig, "a", keep_alive=keep_alive)
        assert ((await rig.client.get("/models/a")).json()["expires_at"] is not None) is expires


async def test_a_resident_never_expires(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=RESIDENT) as rig:
        assert (await ask(rig, "r", keep_alive=0)).status_code == 200
        await rig.lifecycle.reconcile()
        assert state_of(rig, "r") is State.READY


async def test_no_idle_time_passes_while_an_answer_runs(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=TABLE) as rig:
        held = Held(rig)
        first = asyncio.create_task(ask(rig, "a"))
        second = asyncio.create_task(ask(rig, "a", keep_alive=0))
        await rig.until(lambda: rig.lifecycle.view("a").in_flight == 2)
        await rig.lifecycle.reconcile()
        assert state_of(rig, "a") is State.READY
        held.may_end.set()
        assert {(await first).status_code, (await second).status_code} == {200}


async def test_looking_at_a_set_neither_loads_it_nor_keeps_it(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=TABLE) as rig:
        for path in ("/models", "/models/a", "/health", "/stats"):
            assert (await rig.client.get(path)).status_code == 200
        assert not rig.torchserve.registered
        await ask(rig, "a")
        before = rig.lifecycle._table.named("a").use.expires
        await rig.client.get("/models/a")
        await rig.lifecycle.refresh()
        assert rig.lifecycle._table.named("a").use.expires == before


async def test_measured_memory_is_learned_for_the_next_start(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=TABLE) as rig:
        rig.torchserve.memory = 2 * GB
        await ask(rig, "a")
        row = (await rig.client.get("/models/a")).json()["memory"]
        assert (row["measured"], row["correction"]) == (2 * GB, "~2GB (Q4_1)")
        (kept,) = orjson.loads(rig.state.peaks_file.read_bytes()).values()
        assert kept["memory"] == {"cpu": 2 * GB}
    async with crowd(make_rig, settings=TABLE, budget=3 * GB) as rig:
        assert (await ask(rig, "a")).json()["error"]["code"] == "insufficient_memory"


async def test_a_set_that_grew_beyond_the_budget_is_unloaded_when_idle(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=TABLE, budget=TWO) as rig:
        await ask(rig, "a")
        rig.torchserve.workers("a")[0].memory = 8 * GB
        await ask(rig, "b")
        await rig.lifecycle.refresh()
        await settled(rig, "a", State.UNAVAILABLE)
        assert state_of(rig, "b") is State.READY


async def test_an_out_of_memory_load_is_tried_once_more_with_the_idle_sets_gone(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=TABLE, budget=3 * TWO) as rig:
        await ask(rig, "a")
        rig.torchserve.fits = 1
        assert (await ask(rig, "b")).status_code == 200
        assert rig.torchserve.unregistered == ["b", "a"]
        assert len(rig.torchserve.registered) == 3


async def test_a_load_that_runs_out_of_memory_twice_fails(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=TABLE) as rig:
        rig.torchserve.fits = 0
        answer = await ask(rig, "a")
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "insufficient_memory")
        assert "std::bad_alloc" in error["message"]
        assert len(rig.torchserve.registered) == 2


async def test_a_load_waits_until_memory_is_really_free(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=TABLE) as rig:
        rig.memory.left = {"cpu": GB}
        answer = await ask(rig, "a", max_wait_s=0.05)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")
        assert int(answer.headers["retry-after"]) >= 1
        assert not rig.torchserve.registered
        rig.memory.left = {"cpu": 5 * GB}
        await settled(rig, "a", State.READY)


async def test_who_waits_for_memory_is_told_the_position(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=TABLE, budget=ONE) as rig:
        held = Held(rig)
        first = asyncio.create_task(ask(rig, "a"))
        await rig.until(lambda: rig.lifecycle.view("a").in_flight == 1)
        second = asyncio.create_task(ask(rig, "b"))
        await rig.until(lambda: rig.lifecycle.view("b").position == 1)
        stream = {"prompt": "x", "category": "c"}
        async with rig.client.stream("POST", "/generate/stream", json=stream) as response:
            assert await anext(response.aiter_lines()) == ": queued 2nd of 2 for c, waiting for memory"
        held.may_end.set()
        assert {(await first).status_code, (await second).status_code} == {200}


async def test_a_queued_set_is_served_once_a_busy_one_is_idle(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=TABLE, budget=ONE) as rig:
        held = Held(rig)
        first = asyncio.create_task(ask(rig, "a"))
        await rig.until(lambda: rig.lifecycle.view("a").in_flight == 1)
        second = asyncio.create_task(ask(rig, "b"))
        await rig.until(lambda: rig.lifecycle.view("b").position == 1)
        assert state_of(rig, "a") is State.READY
        held.may_end.set()
        assert {(await first).status_code, (await second).status_code} == {200}
        assert rig.torchserve.unregistered == ["a"]


async def test_race_a_request_does_not_resurrect_a_set_marked_for_eviction(
    make_rig: MakeRig, impatient: None
) -> None:
    async with crowd(make_rig, settings=TABLE, budget=ONE) as rig:
        held = Held(rig)
        first = asyncio.create_task(ask(rig, "a"))
        await rig.until(lambda: rig.lifecycle.view("a").in_flight == 1)
        other = asyncio.create_task(ask(rig, "b"))
        await rig.until(lambda: state_of(rig, "a") is State.UNLOADING)
        again = asyncio.create_task(ask(rig, "a"))
        held.may_end.set()
        assert {(await task).status_code for task in (first, other, again)} == {200}
        assert rig.torchserve.unregistered[:2] == ["a", "b"]


async def test_race_constant_load_on_one_set_does_not_starve_another(
    make_rig: MakeRig, impatient: None
) -> None:
    async with crowd(make_rig, settings=TABLE, budget=ONE, max_wait_s=20) as rig:
        stop = asyncio.Event()

        async def hammer() -> int:
            count = 0
            while not stop.is_set():
                assert (await ask(rig, "a")).status_code == 200
                count += 1
            return count

        hammers = [asyncio.create_task(hammer()) for _ in range(4)]
        await rig.until(lambda: state_of(rig, "a") is State.READY)
        assert (await ask(rig, "b")).status_code == 200
        stop.set()
        assert all([await task for task in hammers])


async def test_race_two_waiters_for_the_memory_of_one_set_both_wake(make_rig: MakeRig) -> None:
    async with crowd(make_rig, settings=TABLE, budget=ONE) as rig:
        held = Held(rig)
        first = asyncio.create_task(ask(rig, "a"))
        await rig.until(lambda: rig.lifecycle.view("a").in_flight == 1)
        waiters = [asyncio.create_task(ask(rig, name)) for name in ("b", "c")]
        await rig.until(lambda: rig.lifecycle.view("c").position == 2)
        held.may_end.set()
        assert {(await task).status_code for task in (first, *waiters)} == {200}


async def test_race_a_set_is_not_evicted_between_ready_and_its_first_request(
    make_rig: MakeRig, impatient: None
) -> None:
    async with crowd(make_rig, settings=TABLE, budget=ONE) as rig:
        rig.torchserve.may_load.clear()
        first = asyncio.create_task(ask(rig, "a"))
        await rig.until(lambda: bool(rig.torchserve.registered))
        second = asyncio.create_task(ask(rig, "b"))
        await rig.until(lambda: rig.lifecycle.view("b").position == 1)
        rig.torchserve.may_load.set()
        assert {(await first).status_code, (await second).status_code} == {200}
        assert [name[0] for name in rig.torchserve.registered] == ["a", "b"]


async def test_race_a_loading_set_is_not_evicted(make_rig: MakeRig, impatient: None) -> None:
    async with crowd(make_rig, settings=TABLE, budget=ONE) as rig:
        rig.torchserve.may_load.clear()
        first = asyncio.create_task(ask(rig, "a"))
        await rig.until(lambda: bool(rig.torchserve.registered))
        second = asyncio.create_task(ask(rig, "b", max_wait_s=0.1))
        assert (await second).json()["error"]["code"] == "model_loading"
        assert not rig.torchserve.unregistered
        rig.torchserve.may_load.set()
        assert (await first).status_code == 200


async def test_race_an_unload_between_a_load_and_its_first_request_does_not_fail_it(
    make_rig: MakeRig,
) -> None:
    async with crowd(make_rig, settings=TABLE) as rig:
        assert (await rig.client.post("/admin/models/a/load")).status_code == 200
        unloading = asyncio.create_task(rig.client.post("/admin/models/a/unload"))
        await rig.until(lambda: state_of(rig, "a") is not State.READY)
        assert (await ask(rig, "a")).status_code == 200
        assert (await unloading).status_code == 200


async def test_race_health_is_not_green_while_the_lifecycle_loop_is_dead(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_rig(settings=TABLE) as rig:
        assert (await rig.client.get("/health/live")).status_code == 200
        monkeypatch.setattr(heartbeat, "STALLED_S", 0.0)
        for path in ("/health", "/health/live", "/health/ready"):
            assert (await rig.client.get(path)).status_code == 503


async def test_a_beat_that_fails_is_not_the_last(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    async with make_rig(settings=TABLE) as rig:
        monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)
        looked = 0

        def look() -> None:
            nonlocal looked
            looked += 1
            raise ValueError("a defect")

        beating = asyncio.create_task(heartbeat.Heartbeat(rig.lifecycle, look).run())
        await rig.until(lambda: looked > 2)
        beating.cancel()
        await asyncio.wait({beating})


async def test_four_sets_in_turn_are_all_answered_and_never_exceed_the_budget(
    make_rig: MakeRig, impatient: None
) -> None:
    table = TABLE + "| D | d | ~4GB | `models/d.gguf` | false | Q4_1 |\n"
    async with crowd(make_rig, settings=table, budget=TWO, max_wait_s=30) as rig:
        over: list[int] = []

        async def client(number: int) -> None:
            for turn in range(6):
                assert (await ask(rig, "abcd"[(number + turn) % 4])).status_code == 200
                over.append(rig.lifecycle.admission.charged.get("cpu", 0))

        async with asyncio.timeout(60):
            await asyncio.gather(*(client(number) for number in range(8)))
        assert max(over) <= TWO
        stats = (await rig.client.get("/stats")).json()
        assert stats["swaps"] > 0
