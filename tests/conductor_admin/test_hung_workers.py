"""Hung workers are detected, reported, ended and replaced; every wait has a limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from conductor_admin.lifecycle.states import State
from conductor_admin.workers import client, liveness
from conductor_admin.workers.client import Patience
from conductor_admin.workers.liveness import IDLE_LOOKS, STOPPED_LOOKS
from conductor_core.processes import is_alive
from tests.conductor_admin.fake_torchserve import FakeWorker, done
from tests.conductor_admin.gateway_rig import SETTINGS, MakeRig, Rig
from tests.conductor_admin.test_settings_reload import CHAT, ask, beats

SHORT = Patience(0.5, 0.5)


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten health checks: one without an answer takes a third of a second, and each one counts."""
    monkeypatch.setattr(liveness, "LEAST_APART_S", 0.0)
    monkeypatch.setattr(client, "_HEALTH_TIMEOUT", aiohttp.ClientTimeout(total=0.3))


async def looks(rig: Rig, count: int) -> None:
    for _ in range(count):
        await rig.lifecycle.refresh()


async def the_worker(rig: Rig) -> FakeWorker:
    """The chat model's one worker, loaded."""
    await ask(rig)
    (worker,) = rig.torchserve.workers(CHAT)
    return worker


async def two_workers(rig: Rig) -> list[FakeWorker]:
    """The chat model's two workers, both adopted."""
    rig.torchserve.each = 2
    await ask(rig)
    for _ in range(200):
        await beats(rig, 1)
        await asyncio.sleep(0.01)
        if len(rig.lifecycle.view(CHAT).workers) == 2:
            return rig.torchserve.workers(CHAT)
    raise AssertionError("the second worker was never taken up")


def two_row_settings() -> str:
    lines = SETTINGS.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("|Category/Area"))
    cells = (" Workers |", "---|", " 2 |", " 2 |", " 1 |")
    for n, cell in enumerate(cells):
        lines[at + n] += cell
    return "\n".join(lines) + "\n"


async def replaced(rig: Rig, worker: FakeWorker) -> None:
    """Wait until the worker's process and socket are gone and another worker serves."""

    def is_replaced() -> bool:
        view = rig.lifecycle.view(CHAT)
        return view.state is State.READY and worker.pid not in {one.pid for one in view.workers}

    await rig.until(is_replaced)
    await rig.until(lambda: not is_alive(worker.pid))
    await rig.until(lambda: not rig.state.worker_socket(worker.pid).exists())
    assert (await ask(rig)).status_code == 200


async def health(rig: Rig) -> dict[str, Any]:
    return dict((await rig.client.get("/health")).json())


async def shown(rig: Rig) -> dict[str, Any]:
    return dict((await rig.client.get(f"/models/{CHAT}")).json())


@pytest.mark.parametrize(("stopped", "count"), [(True, STOPPED_LOOKS), (False, IDLE_LOOKS)])
async def test_a_worker_that_hangs_is_told_of_then_ended_and_replaced(
    rig: Rig, stopped: bool, count: int
) -> None:
    worker = await the_worker(rig)
    await looks(rig, 1)
    assert (await health(rig))["status"] == "ok"
    worker.hang(stopped=stopped)
    await looks(rig, count - 1)
    assert [(w["pid"], w["state"]) for w in (await shown(rig))["workers"]] == [(worker.pid, "UNRESPONSIVE")]
    told = await health(rig)
    (of_set,) = [one for one in told["sets"] if one["unresponsive"]]
    assert (told["status"], told["live"], of_set["unresponsive"]) == ("degraded", True, [worker.pid])
    rig.torchserve.may_load.clear()
    await looks(rig, 1)
    model = await shown(rig)
    assert (model["state"], model["phase"], model["workers"]) == ("LOADING", "restart", [])
    assert (await rig.client.get("/health/ready")).status_code == 503
    rig.torchserve.may_load.set()
    await replaced(rig, worker)
    await looks(rig, 1)
    assert (await health(rig))["status"] == "ok"


async def test_a_worker_that_answers_late_now_and_then_is_left_alone(rig: Rig) -> None:
    worker = await the_worker(rig)
    for _ in range(2):
        worker.hang(stopped=False)
        await looks(rig, IDLE_LOOKS - 1)
        worker.may_answer.set()
        await looks(rig, 1)
    assert [(w["pid"], w["state"]) for w in (await shown(rig))["workers"]] == [(worker.pid, "READY")]
    assert rig.torchserve.registered == rig.torchserve.registered[:1]


PATHS: list[tuple[str, dict[str, Any]]] = [
    ("/generate", {"prompt": "x"}),
    ("/generate/stream", {"prompt": "x"}),
    (f"/predictions/{CHAT}", {"prompt": "x"}),
    ("/v1/chat/completions", {"model": CHAT, "messages": [{"role": "user", "content": "x"}]}),
    ("/v1/completions", {"model": CHAT, "prompt": "x"}),
    ("/v1/responses", {"model": CHAT, "input": "x"}),
]


@pytest.mark.parametrize(("path", "body"), PATHS, ids=[path for path, _ in PATHS])
async def test_a_request_without_a_head_gets_its_error_in_time_and_the_worker_is_replaced(
    make_rig: MakeRig, path: str, body: dict[str, Any]
) -> None:
    async with make_rig(patience=SHORT) as rig:
        worker = await the_worker(rig)
        worker.hang()
        answer = await rig.client.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "worker_unresponsive")
        assert "within 0.5 s" in answer.json()["error"]["message"]
        await replaced(rig, worker)


async def test_a_stream_that_stands_ends_with_an_error_in_time_and_the_worker_is_replaced(
    make_rig: MakeRig,
) -> None:
    async with make_rig(patience=SHORT) as rig:
        worker = await the_worker(rig)
        worker.script = endless
        async with rig.client.stream("POST", "/generate/stream", json={"prompt": "x"}) as response:
            lines = response.aiter_lines()
            await anext(lines)
            worker.hang()
            rest = [line async for line in lines if line.startswith("data: ")]
        assert orjson.loads(rest[-1][6:])["error"]["code"] == "token_timeout"
        assert "data: [DONE]" not in rest
        await replaced(rig, worker)


async def endless(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    while True:
        yield {"delta": "word "}
        await asyncio.sleep(0.05)


async def test_streams_of_a_worker_that_is_ended_for_hanging_are_told_so(rig: Rig) -> None:
    worker = await the_worker(rig)
    worker.script = endless
    async with rig.client.stream("POST", "/generate/stream", json={"prompt": "x"}) as response:
        lines = response.aiter_lines()
        await anext(lines)
        worker.hang()
        await looks(rig, STOPPED_LOOKS)
        rest = [line async for line in lines if line.startswith("data: ")]
    assert orjson.loads(rest[-1][6:])["error"]["code"] == "worker_unresponsive"


async def test_of_two_workers_the_other_one_serves_what_comes(make_rig: MakeRig) -> None:
    async with make_rig(settings=two_row_settings()) as rig:
        first, second = await two_workers(rig)
        first.hang()
        await looks(rig, 1)
        for _ in range(4):
            assert (await ask(rig)).status_code == 200
        assert first.requests[1:] == []
        await looks(rig, STOPPED_LOOKS - 1)
        view = rig.lifecycle.view(CHAT)
        assert (view.state, [w.pid for w in view.workers]) == (State.READY, [second.pid])
        assert (await health(rig))["status"] == "degraded"
        await rig.until(lambda: not is_alive(first.pid))
        for _ in range(200):
            await beats(rig, 1)
            await asyncio.sleep(0.01)
            if len(rig.lifecycle.view(CHAT).workers) == 2:
                break
        assert (await health(rig))["status"] == "ok"


async def test_what_may_have_hung_a_worker_is_not_given_to_the_next_one(rig: Rig) -> None:
    worker = await the_worker(rig)
    worker.hang()
    suspect = asyncio.create_task(ask(rig, prompt="poison"))
    await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 1)
    await looks(rig, 1)
    innocent = asyncio.create_task(ask(rig))
    await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 2)
    await looks(rig, STOPPED_LOOKS - 1)
    refused = await suspect
    assert (refused.status_code, refused.json()["error"]["code"]) == (504, "worker_unresponsive")
    assert (await innocent).status_code == 200
    (new,) = rig.torchserve.workers(CHAT)
    assert [request["prompt"] for request in new.requests] == ["x"]


async def test_a_runtime_that_hangs_under_a_loop_that_answers_is_replaced(make_rig: MakeRig) -> None:
    async with make_rig(patience=SHORT) as rig:
        worker = await the_worker(rig)
        worker.script, worker.running = silent, 1
        await looks(rig, 1)
        refused = await ask(rig)
        assert (refused.status_code, refused.json()["error"]["code"]) == (504, "first_token_timeout")
        await looks(rig, IDLE_LOOKS + 2)  # the check after the time-out may be one of them
        await replaced(rig, worker)


async def silent(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    await asyncio.Event().wait()
    yield done("")


async def test_a_second_worker_that_hangs_in_its_load_is_ended(make_rig: MakeRig) -> None:
    async with make_rig(settings=two_row_settings()) as rig:
        first, _ = await two_workers(rig)
        rig.torchserve.may_load.clear()
        first.hang()
        await looks(rig, STOPPED_LOOKS)
        entry = rig.lifecycle._table.named(CHAT)
        for _ in range(200):
            await beats(rig, 1)
            await asyncio.sleep(0.01)
            if entry.load.starting:
                break
        (pid,) = entry.load.starting
        entry.load.starting[pid] -= 6  # the load time of the rig has passed
        for _ in range(200):
            await beats(rig, 1)
            await asyncio.sleep(0.01)
            if not is_alive(pid):
                break
        assert not is_alive(pid)
        assert pid in entry.load.dead


async def test_no_hang_holds_up_the_beat(make_rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_HEALTH_TIMEOUT", aiohttp.ClientTimeout(total=30))
    async with make_rig() as rig:
        worker = await the_worker(rig)
        worker.hang(stopped=False)
        heartbeat = rig.gateway.heartbeat
        beating = asyncio.create_task(heartbeat.run())
        try:
            await rig.until(lambda: heartbeat._refreshing is not None)
            first = heartbeat._last_beat
            await rig.until(lambda: heartbeat._last_beat > first)
            assert heartbeat._refreshing is not None
            assert not heartbeat._refreshing.done()
            assert (await rig.client.get("/health/live")).status_code == 200
        finally:
            beating.cancel()
            await asyncio.wait({beating})
