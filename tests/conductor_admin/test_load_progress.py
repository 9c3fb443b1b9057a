"""Progress for waiting clients: phase, percent, place in the queue, seconds if earlier loads were timed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from archives.weights_info import KnownWeights
from conductor_admin.api.responder import ordinal
from conductor_admin.lifecycle import reconciler
from conductor_admin.lifecycle.states import State
from tests.conductor_admin.gateway_rig import GB, MakeRig, Rig
from tests.conductor_admin.test_memory_loads import ONE, TABLE, Held

CHAT = "conversational_chat"


async def ask(rig: Rig, category: str = CHAT, **fields: Any) -> Any:
    return await rig.client.post("/generate", json={"prompt": "x", "category": category, **fields})


async def first_line(rig: Rig, path: str = "/generate/stream", body: dict[str, Any] | None = None) -> str:
    """The first line of a stream, which is then dropped."""
    async with rig.client.stream("POST", path, json=body or {"prompt": "x", "category": CHAT}) as response:
        return await anext(response.aiter_lines())


@pytest.mark.parametrize(("path", "fields"), [("/generate/stream", {}), ("/generate", {"stream": True})])
async def test_both_ways_to_stream_tell_phase_and_percent(
    rig: Rig, path: str, fields: dict[str, bool]
) -> None:
    rig.builder.may_build.clear()
    body = {"prompt": "x", "category": CHAT, **fields}
    assert await first_line(rig, path, body) == f": loading {CHAT} 41% (convert)"


async def test_a_queue_for_memory_tells_place_and_length(make_rig: MakeRig) -> None:
    async with make_rig(settings=TABLE, budget=ONE) as rig:
        held = Held(rig)
        first = asyncio.create_task(ask(rig, "a"))
        await rig.until(lambda: rig.lifecycle.view("a").in_flight == 1)
        second = asyncio.create_task(ask(rig, "b"))
        await rig.until(lambda: rig.lifecycle.view("b").position == 1)
        said = await first_line(rig, body={"prompt": "x", "category": "c"})
        assert said == ": queued 2nd of 2 for c, waiting for memory"
        row = (await rig.client.get("/models/c")).json()
        assert (row["phase"], row["position"], row["queue"]) == ("wait", 2, 2)
        held.may_end.set()
        assert {(await first).status_code, (await second).status_code} == {200}
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th")
    ]


async def test_a_set_that_ends_first_says_so(rig: Rig) -> None:
    held = Held(rig)
    answering = asyncio.create_task(ask(rig))
    await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 1)
    unloading = asyncio.create_task(rig.client.post(f"/admin/models/{CHAT}/unload"))
    await rig.until(lambda: rig.lifecycle.view(CHAT).state is State.UNLOADING)
    assert await first_line(rig) == f": unloading {CHAT} before loading it again"
    held.may_end.set()
    assert (await answering).status_code == (await unloading).status_code == 200


async def test_no_eta_is_said_before_a_load_was_timed(rig: Rig) -> None:
    rig.torchserve.may_load.clear()
    answer = await ask(rig, max_wait_s=0.1)
    assert answer.json()["error"]["message"] == f"{CHAT} is still loading after 0.1 s; the load goes on"
    assert (await rig.client.get(f"/models/{CHAT}")).json()["eta_s"] is None


async def test_a_timed_load_is_an_eta_after_a_restart_of_the_gateway(
    make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_rig() as rig:
        await ask(rig)
        entry = rig.lifecycle._table.named(CHAT)
        assert entry.load.seconds is not None
        rig.lifecycle.admission.measurements.loaded(entry, 60.0)
    async with make_rig() as rig:
        rig.torchserve.may_load.clear()
        answer = await ask(rig, max_wait_s=0.2)
        assert "the load goes on, for about 60 s more" in answer.json()["error"]["message"]
        assert 50 <= int(answer.headers["retry-after"]) <= 60
        assert 50 < (await rig.client.get(f"/models/{CHAT}")).json()["eta_s"] < 60
        assert await first_line(rig) == f": loading {CHAT} (start), about 59 s"


async def test_a_load_that_takes_longer_than_any_before_has_no_eta(rig: Rig) -> None:
    await ask(rig)
    await rig.client.post(f"/admin/models/{CHAT}/unload")
    rig.lifecycle._table.named(CHAT).load.seconds = 0.01
    rig.torchserve.may_load.clear()
    answer = await ask(rig, max_wait_s=0.2)
    assert "for about" not in answer.json()["error"]["message"]


async def test_memory_is_measured_when_an_answer_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await ask(rig)
    monkeypatch.setattr(reconciler, "SAMPLE_S", 0.0)
    rig.torchserve.workers(CHAT)[0].memory = GB
    await ask(rig)
    await rig.until(lambda: rig.lifecycle.view(CHAT).measured == GB)


async def test_memory_is_measured_once_more_before_a_set_is_unloaded(rig: Rig) -> None:
    await ask(rig)
    rig.torchserve.workers(CHAT)[0].memory = GB
    await rig.client.post(f"/admin/models/{CHAT}/unload")
    entry = rig.lifecycle._table.named(CHAT)
    assert rig.lifecycle.admission.measurements.figures(entry).learned == {"cpu": GB}


async def test_models_show_at_once_what_files_and_earlier_gateways_say_of_memory(rig: Rig) -> None:
    rig.builder.known = KnownWeights("weights", 700, 4.58)
    (chat, _) = rig.gateway.catalogue.sets
    rig.lifecycle.admission.measurements._history.learn(chat, "weights", {"cpu": 2 * GB})
    await rig.lifecycle.reconcile()
    await rig.until(lambda: rig.lifecycle.view(CHAT).estimated == 700)
    shown = (await rig.client.get(f"/models/{CHAT}")).json()
    assert shown["contexts_in_cache"] == 4.5
    assert shown["memory"] == {
        "declared": GB,
        "estimated": 700,
        "measured": None,
        "peak": 2 * GB,
        "correction": "~2GB (Q4_1)",
    }
    assert not rig.torchserve.registered
    plan = (await rig.client.get("/admin/plan")).json()
    assert [one["cell"] for one in plan["corrections"]] == ["~2GB (Q4_1)"] * 2
    assert plan["sets"][0]["estimated"] == 700
