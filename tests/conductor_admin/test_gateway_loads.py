"""Load jobs: requests join and leave them, they fail, cool down and restart; unloads drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from conductor_admin.lifecycle.states import State
from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import MakeRig, Rig


async def ask(rig: Rig, category: str = "conversational_chat", **fields: Any) -> Any:
    return await rig.client.post("/generate", json={"prompt": "x", "category": category, **fields})


async def test_fifty_first_requests_cause_one_load(rig: Rig) -> None:
    rig.torchserve.may_load.clear()
    asking = asyncio.gather(*(ask(rig) for _ in range(50)))
    stats = rig.gateway.stats.categories
    await rig.until(lambda: bool(stats()) and stats()["conversational_chat"]["queued"] == 50)
    rig.torchserve.may_load.set()
    assert {answer.status_code for answer in await asking} == {200}
    assert rig.torchserve.registered == ["conversational_chat-0123456789ab.mar"]
    assert rig.builder.builds == 1


async def test_a_waiter_that_leaves_does_not_abort_the_load(rig: Rig) -> None:
    rig.builder.may_build.clear()
    leaving = asyncio.create_task(ask(rig))
    await rig.until(lambda: rig.builder.builds == 1)
    leaving.cancel()
    await asyncio.wait({leaving})
    rig.builder.may_build.set()
    await rig.until(lambda: rig.lifecycle.view("conversational_chat").state is State.READY)
    assert rig.builder.builds == 1


async def test_a_failed_load_tells_every_waiter_the_last_line_and_is_unregistered(rig: Rig) -> None:
    rig.torchserve.traceback = "RuntimeError: no such tensor"
    answers = await asyncio.gather(*(ask(rig) for _ in range(5)))
    for answer in answers:
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert error["code"] == "model_load_failed"
        assert "RuntimeError: no such tensor" in error["message"]
        assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert rig.torchserve.unregistered == ["conversational_chat"]
    assert len(rig.torchserve.registered) == 1
    row = (await rig.client.get("/models/conversational_chat")).json()
    assert (row["state"], row["last_error"]) == ("FAILED", "RuntimeError: no such tensor")


async def test_a_cool_down_refuses_at_once_and_an_operators_load_clears_it(rig: Rig) -> None:
    rig.torchserve.traceback = "OSError: no such file"
    assert (await ask(rig)).status_code == 503
    assert (await ask(rig)).status_code == 503
    assert len(rig.torchserve.registered) == 1
    rig.torchserve.traceback = None
    loaded = await rig.client.post("/admin/models/conversational_chat/load")
    assert (loaded.status_code, loaded.json()["state"]) == (200, "READY")
    assert (await ask(rig)).status_code == 200


async def test_a_load_that_misses_a_package_names_the_command_that_installs_it(rig: Rig) -> None:
    rig.torchserve.traceback = "ModuleNotFoundError: No module named 'bitsandbytes'"
    answer = await ask(rig)
    assert "pip install bitsandbytes==" in answer.json()["error"]["message"]


async def test_a_build_that_fails_is_a_failed_load(rig: Rig) -> None:
    rig.builder.fault = "SETTINGS.md line 9: the file is not there"
    answer = await ask(rig)
    assert "the file is not there" in answer.json()["error"]["message"]
    assert not rig.torchserve.registered


async def test_a_worker_of_another_wire_version_is_refused(rig: Rig) -> None:
    rig.torchserve.wire = 99
    answer = await ask(rig)
    assert "wire version 99" in answer.json()["error"]["message"]


async def test_patience_ends_with_retry_after_while_the_load_goes_on(rig: Rig) -> None:
    rig.builder.may_build.clear()
    answer = await ask(rig, max_wait_s=0.05)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")
    assert int(answer.headers["retry-after"]) >= 1
    rig.builder.may_build.set()
    assert (await ask(rig)).status_code == 200
    assert rig.builder.builds == 1


async def test_a_stream_tells_that_the_set_is_loading(rig: Rig) -> None:
    rig.builder.may_build.clear()
    async with rig.client.stream("POST", "/generate/stream", json={"prompt": "x"}) as response:
        lines = response.aiter_lines()
        assert await anext(lines) == ": loading conversational_chat 41% (convert)"
        rig.builder.fault = "broken"
        rig.builder.may_build.set()
        rest = [line async for line in lines if line.startswith("data")]
    assert len(rest) == 1
    assert "model_load_failed" in rest[0]


async def test_resident_sets_are_loaded_at_start(rig: Rig) -> None:
    rig.lifecycle.start()
    await rig.until(lambda: rig.lifecycle.view("conversational_chat").state is State.READY)
    assert rig.lifecycle.view("translation").state is State.UNAVAILABLE


async def test_more_requests_than_the_queue_takes_are_refused(make_rig: MakeRig) -> None:
    async with make_rig(queue_size=3) as rig:
        rig.builder.may_build.clear()
        waiting = [asyncio.create_task(ask(rig)) for _ in range(3)]
        await rig.until(
            lambda: rig.gateway.stats.categories().get("conversational_chat", {}).get("queued") == 3
        )
        refused = await ask(rig)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_overloaded")
        assert refused.headers["retry-after"] == "1"
        rig.builder.may_build.set()
        assert {(await task).status_code for task in waiting} == {200}


async def test_torchserve_that_comes_back_is_told_of_its_archives_again(rig: Rig) -> None:
    assert (await ask(rig)).status_code == 200
    await rig.torchserve.stop()
    await rig.lifecycle.torchserve_ended()
    view = rig.lifecycle.view("conversational_chat")
    assert (view.state, view.phase) == (State.LOADING, "restart")
    await rig.torchserve.start()
    await rig.lifecycle.torchserve_started()
    assert (await ask(rig)).status_code == 200
    assert len(rig.torchserve.registered) == 2


async def test_a_dead_worker_is_noticed_without_a_request(rig: Rig) -> None:
    assert (await ask(rig)).status_code == 200
    before = rig.lifecycle.view("conversational_chat").workers[0].pid
    await rig.torchserve.workers("conversational_chat")[0].kill()
    await rig.lifecycle.reconcile()
    assert rig.lifecycle.view("conversational_chat").state is State.LOADING
    await rig.until(lambda: rig.lifecycle.view("conversational_chat").state is State.READY)
    assert rig.lifecycle.view("conversational_chat").workers[0].pid != before


async def test_unload_drains_and_the_next_request_loads_again(rig: Rig) -> None:
    go_on = asyncio.Event()

    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        await go_on.wait()
        yield done("late")

    rig.torchserve.script = script
    answering = asyncio.create_task(ask(rig))
    await rig.until(lambda: rig.lifecycle.view("conversational_chat").in_flight == 1)
    unloading = asyncio.create_task(rig.client.post("/admin/models/conversational_chat/unload"))
    await rig.until(lambda: rig.lifecycle.view("conversational_chat").state is State.UNLOADING)
    assert not rig.torchserve.unregistered
    queued = asyncio.create_task(ask(rig))
    go_on.set()
    assert (await answering).json()["text"] == "late"
    assert (await unloading).status_code == 200
    assert rig.torchserve.unregistered == ["conversational_chat"]
    assert (await queued).json()["text"] == "late"
    assert len(rig.torchserve.registered) == 2


async def test_unload_now_ends_streams_with_the_reason(rig: Rig) -> None:
    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": "begun"}
        await asyncio.Event().wait()

    rig.torchserve.script = script
    async with rig.client.stream("POST", "/generate/stream", json={"prompt": "x"}) as response:
        lines = response.aiter_lines()
        await anext(lines)
        reply = await rig.client.post("/admin/models/conversational_chat/unload?mode=now")
        assert reply.json()["state"] == "UNAVAILABLE"
        rest = [line async for line in lines if line]
    assert "model_unloaded" in rest[-1]


async def test_a_row_that_others_hold_is_not_unloaded_without_force(rig: Rig) -> None:
    await ask(rig, "conversational_chat")
    await ask(rig, "legal_analysis")
    refused = await rig.client.post("/admin/models/legal_analysis/unload")
    assert refused.status_code == 409
    assert "conversational_chat" in refused.json()["error"]["message"]
    assert not rig.torchserve.unregistered
    forced = await rig.client.post("/admin/models/legal_analysis/unload?force=true")
    assert forced.json()["state"] == "UNAVAILABLE"


async def test_without_models_every_route_answers(make_rig: MakeRig) -> None:
    async with make_rig(serves=False) as rig:
        for path in ("/generate", "/generate/stream"):
            answer = await rig.client.post(path, json={"prompt": "x"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading_skipped")
        assert (await rig.client.get("/models")).status_code == 200
        assert not rig.torchserve.registered


@pytest.mark.parametrize("query", ["mode=soon", "force=perhaps"])
async def test_unknown_words_of_an_unload_are_refused(rig: Rig, query: str) -> None:
    assert (await rig.client.post(f"/admin/models/translation/unload?{query}")).status_code == 400


async def test_each_load_looks_at_the_weights_and_a_damaged_one_fails_with_its_cure(rig: Rig) -> None:
    await rig.client.post("/generate", json={"prompt": "x"})
    rig.builder.damage = (
        "model.bin changed since it was made; run: conductor pull --verify conversational_chat"
    )
    await rig.torchserve.workers("conversational_chat")[0].kill()
    await rig.lifecycle.reconcile()
    await rig.until(lambda: rig.lifecycle.view("conversational_chat").state is State.FAILED)
    shown = (await rig.client.get("/models/conversational_chat")).json()
    assert shown["last_error"] == rig.builder.damage
    refused = await rig.client.post("/generate", json={"prompt": "x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_load_failed")
    assert rig.builder.damage in refused.json()["error"]["message"]
    builds, rig.builder.damage = rig.builder.builds, None
    for _ in range(2):
        assert (await rig.client.post("/admin/models/conversational_chat/load")).status_code == 200
        assert (await rig.client.post("/admin/models/conversational_chat/unload")).status_code == 200
    assert rig.builder.builds == builds + 2
