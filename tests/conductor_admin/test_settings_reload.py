"""SETTINGS.md edited while the gateway serves, over the fake TorchServe."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conductor_admin.lifecycle.states import State
from tests.conductor_admin.gateway_rig import GB, SETTINGS, MakeRig, Rig
from tests.conductor_admin.test_memory_loads import Held
from tests.odd_files import ODD

CHAT, TRANSLATION = "conversational_chat", "translation"


async def ask(rig: Rig, category: str = CHAT, **fields: Any) -> Any:
    return await rig.client.post("/generate", json={"prompt": "x", "category": category, **fields})


def edit(rig: Rig, *pairs: tuple[str, str], text: str = SETTINGS) -> None:
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    (rig.state.root / "SETTINGS.md").write_text(text)


async def reload(rig: Rig) -> dict[str, Any]:
    answer = await rig.client.post("/admin/reload")
    assert answer.status_code == 200, answer.text
    plan: dict[str, Any] = answer.json()
    return plan


async def beats(rig: Rig, count: int = 3) -> None:
    for _ in range(count):
        await rig.gateway.settings.look()
        await rig.lifecycle.reconcile()


async def test_persona_and_parameters_apply_without_a_reload_of_the_model(rig: Rig) -> None:
    await ask(rig)
    edit(rig, ("You are kind.", "You are brief."), ("| 0 | 77 |", "| 0 | 78 |"))
    await beats(rig)
    assert (await ask(rig)).status_code == 200
    assert rig.torchserve.workers(CHAT)[0].requests[-1]["system"] == "You are brief."
    await ask(rig, TRANSLATION)
    assert rig.torchserve.workers(TRANSLATION)[0].requests[-1]["sampling"]["max_tokens"] == 78
    assert len(rig.torchserve.registered) == 2


async def test_an_edit_is_seen_by_a_loop_of_its_own(rig: Rig) -> None:
    watching = asyncio.create_task(rig.gateway.settings.run())
    edit(rig, ("You are kind.", "You are brief."))
    await rig.until(lambda: rig.gateway.catalogue.persona == "You are brief.")
    watching.cancel()
    await asyncio.wait({watching})


async def test_a_broken_edit_changes_nothing_and_is_reported_with_line_and_column(rig: Rig) -> None:
    rig.lifecycle.start()
    await rig.until(lambda: rig.lifecycle.view(CHAT).state is State.READY)
    edit(rig, ("| true | Q4_1 |", "| perhaps | Q4_1 |"))
    await beats(rig)
    health = await rig.client.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    (told,) = health.json()["settings"]["errors"]
    assert told.startswith("SETTINGS.md:10:")
    assert "Stay Loaded" in told
    assert (await ask(rig)).status_code == 200
    refused = await rig.client.post("/admin/reload")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_settings")
    assert told in refused.json()["error"]["message"]
    edit(rig)
    await beats(rig)
    assert (await rig.client.get("/health")).json()["status"] == "ok"
    assert len(rig.torchserve.registered) == 1


async def test_a_settings_file_that_disappears_is_a_broken_edit(rig: Rig) -> None:
    (rig.state.root / "SETTINGS.md").unlink()
    await beats(rig)
    assert "cannot be read" in (await rig.client.get("/health")).json()["settings"]["errors"][0]
    assert (await ask(rig)).status_code == 200


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ODD)
async def test_what_is_no_file_in_its_place_is_a_broken_edit(rig: Rig, kind: str) -> None:
    (rig.state.root / "SETTINGS.md").unlink()
    ODD[kind](rig.state.root / "SETTINGS.md")
    await beats(rig)
    told = (await rig.client.get("/health")).json()["settings"]["errors"]
    assert len(told) == 1
    assert (await rig.client.post("/admin/reload")).json()["error"]["message"] == told[0]
    assert (await rig.client.get("/admin/plan")).status_code == 400
    assert (await ask(rig)).status_code == 200


async def test_a_reload_that_is_broken_off_is_done_by_the_next_look(rig: Rig) -> None:
    edit(rig, ("You are kind.", "You are brief."))
    reloading = asyncio.create_task(rig.gateway.settings.reload())
    await asyncio.sleep(0)
    reloading.cancel()
    await asyncio.wait({reloading})
    await beats(rig)
    assert rig.gateway.catalogue.persona == "You are brief."


async def test_the_plan_is_shown_and_nothing_is_done(rig: Rig) -> None:
    await ask(rig)
    edit(rig, ("| Translation |", "| Poetry |"), ("other", "poems"), text=without_parameters())
    plan = (await rig.client.get("/admin/plan")).json()
    assert (plan["added"], plan["removed"]) == (["poetry"], [TRANSLATION])
    assert plan["untouched"] == [CHAT, "legal_analysis"]
    assert plan["resident_fits"] is True
    assert (await rig.client.get("/models/translation")).status_code == 200


async def test_the_plan_of_another_text_leaves_the_file_alone(rig: Rig) -> None:
    text = without_parameters().replace("| Translation |", "| Poetry |").replace("other", "poems")
    plan = (await rig.client.post("/admin/plan", content=text.encode())).json()
    assert (plan["changed"], plan["added"], plan["removed"]) == ([], ["poetry"], [TRANSLATION])
    mistaken = text.replace("| true |", "| perhaps |", 1)
    answer = await rig.client.post("/admin/plan", params={"name": "copy.md"}, content=mistaken.encode())
    assert answer.json()["error"]["message"].startswith("copy.md:10:")
    assert (await rig.client.post("/admin/plan?name=%0A", content=text.encode())).status_code == 400
    for no_table in (b"", b"\xff", b"| Category/Area |"):
        answer = await rig.client.post("/admin/plan", content=no_table)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_settings")
    assert (await rig.client.get("/models/translation")).status_code == 200


async def test_an_added_row_is_served_and_a_removed_one_drains(rig: Rig) -> None:
    held = Held(rig)
    answering = asyncio.create_task(ask(rig, TRANSLATION))
    await rig.until(lambda: rig.lifecycle.view(TRANSLATION).in_flight == 1)
    edit(rig, ("| Translation |", "| Poetry |"), ("models/other", "models/poems"), text=without_parameters())
    assert (await reload(rig))["added"] == ["poetry"]
    assert (await ask(rig, TRANSLATION)).status_code == 404
    assert not rig.torchserve.unregistered
    held.may_end.set()
    assert (await answering).json()["text"] == "late"
    assert (await ask(rig, "poetry")).status_code == 200
    await rig.until(lambda: rig.torchserve.unregistered == [TRANSLATION])


async def test_a_stream_whose_row_is_removed_before_its_first_word_is_answered_to_the_end(rig: Rig) -> None:
    held = Held(rig)
    body = {"prompt": "x", "category": TRANSLATION}
    async with rig.client.stream("POST", "/generate/stream", json=body) as answer:
        lines = answer.aiter_lines()
        await rig.until(lambda: rig.lifecycle.view(TRANSLATION).in_flight == 1)
        edit(rig, ("| Translation |", "| Poetry |"), ("other", "poems"), text=without_parameters())
        await reload(rig)
        async with asyncio.timeout(5):
            while not (await anext(lines)).startswith(":"):
                pass  # it has asked for the state of a row that is gone
        held.may_end.set()
        assert [line async for line in lines if line][-1] == "data: [DONE]"
    await rig.until(lambda: rig.torchserve.unregistered == [TRANSLATION])


async def test_a_waiter_of_a_removed_row_is_told_so(rig: Rig) -> None:
    rig.torchserve.may_load.clear()
    waiting = asyncio.create_task(ask(rig, TRANSLATION))
    await rig.until(lambda: bool(rig.torchserve.registered))
    edit(rig, text=without_parameters().replace("| Translation |", "| Poetry |").replace("other", "poems"))
    await reload(rig)
    answer = await waiting
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_changed_model_is_loaded_beside_the_old_one_which_serves_meanwhile(rig: Rig) -> None:
    await ask(rig, TRANSLATION)
    old = rig.torchserve.workers(TRANSLATION)[0]
    rig.builder.version = "ba9876543210"
    rig.torchserve.may_load.clear()
    edit(rig, ("models/other", "models/better"))
    assert (await reload(rig))["rebuilt"] == [TRANSLATION]
    await rig.until(lambda: len(rig.torchserve.registered) == 2)
    assert (await ask(rig, TRANSLATION)).status_code == 200
    assert len(old.requests) == 2
    rig.torchserve.may_load.set()
    await rig.until(lambda: rig.lifecycle.view(TRANSLATION).version == "ba9876543210")
    await rig.until(lambda: rig.torchserve.unregistered == [TRANSLATION])
    assert (await ask(rig, TRANSLATION)).status_code == 200
    assert len(old.requests) == 2
    assert len(rig.torchserve.workers(TRANSLATION)) == 1


async def test_where_both_do_not_fit_the_old_version_ends_first(make_rig: MakeRig) -> None:
    async with make_rig(budget=int(1.5 * GB)) as rig:
        rig.torchserve.memory = GB
        await ask(rig, TRANSLATION)
        rig.builder.version = "ba9876543210"
        edit(rig, ("models/other", "models/better"))
        assert (await reload(rig))["drains_first"] == [TRANSLATION]
        assert (await ask(rig, TRANSLATION)).status_code == 200
        assert rig.torchserve.unregistered == [TRANSLATION]


async def test_a_successor_that_fails_leaves_the_old_version_serving(rig: Rig) -> None:
    await ask(rig, TRANSLATION)
    rig.builder.fault = "SETTINGS.md line 12: the file is not there"
    edit(rig, ("models/other", "models/better"))
    await reload(rig)
    await rig.until(lambda: bool(rig.lifecycle.failed_changes))
    assert (await ask(rig, TRANSLATION)).status_code == 200
    (told,) = (await rig.client.get("/health")).json()["failed_changes"]
    assert "the file is not there" in told


async def test_a_set_that_is_not_loaded_changes_at_once(rig: Rig) -> None:
    edit(rig, ("models/other", "models/better"))
    assert (await reload(rig))["rebuilt"] == [TRANSLATION]
    assert not rig.torchserve.registered
    assert (await ask(rig, TRANSLATION)).json()["model"] == "models/better.gguf"


async def test_a_row_that_now_stays_loaded_is_loaded(rig: Rig) -> None:
    edit(rig, ("`models/other.gguf` | false", "`models/other.gguf` | true"))
    await reload(rig)
    await rig.until(lambda: rig.lifecycle.view(TRANSLATION).state is State.READY)


async def test_a_set_goes_on_when_the_row_that_named_it_goes(rig: Rig) -> None:
    await ask(rig)
    lines = [line for line in SETTINGS.splitlines(keepends=True) if "Conversational Chat" not in line]
    edit(rig, text="".join(lines))
    await reload(rig)
    assert (await ask(rig, "legal_analysis")).status_code == 200
    assert len(rig.torchserve.registered) == 1
    unloaded = await rig.client.post("/admin/models/legal_analysis/unload")
    assert unloaded.json()["state"] == "UNAVAILABLE"


@pytest.mark.parametrize("times", [1, 5])
async def test_edits_in_quick_succession_load_nothing_twice(rig: Rig, times: int) -> None:
    for number in range(times):
        edit(rig, ("`models/other.gguf` | false", "`models/other.gguf` | true"), ("kind", f"kind {number}"))
        await rig.gateway.settings.look()
    await beats(rig)
    await rig.until(lambda: rig.lifecycle.view(TRANSLATION).state is State.READY)
    assert len(rig.torchserve.registered) == 1


def without_parameters() -> str:
    return SETTINGS.partition("## Engine Parameters")[0]
