"""A replaced model fails to load: the old set serves on, and the failure is reported."""

from __future__ import annotations

from typing import Any

import pytest

from conductor_admin.lifecycle import states
from conductor_admin.lifecycle.states import State
from tests.conductor_admin.gateway_rig import GB, SETTINGS, MakeRig, Rig
from tests.conductor_admin.test_settings_reload import CHAT, TRANSLATION, ask, beats, edit, reload

BETTER = ("models/other", "models/better")
FAULT = "the file is not there"
NEXT = "ba9876543210"


async def model(rig: Rig, category: str = TRANSLATION) -> dict[str, Any]:
    answer: dict[str, Any] = (await rig.client.get(f"/models/{category}")).json()
    return answer


async def fail_to_replace(rig: Rig, category: str, *pairs: tuple[str, str]) -> None:
    """Load a row, edit its model, and wait until the new one has failed."""
    assert (await ask(rig, category)).status_code == 200
    rig.builder.version, rig.builder.fault = NEXT, FAULT
    edit(rig, *pairs)
    await reload(rig)
    await rig.until(lambda: bool(rig.lifecycle.failed_changes))


def mend(rig: Rig) -> None:
    rig.builder.fault = None


@pytest.fixture
def no_cooldown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "COOLDOWN_FIRST_S", 0.0)


async def test_the_row_is_shown_with_the_model_that_serves_it_and_with_the_failure(rig: Rig) -> None:
    await ask(rig)
    await fail_to_replace(rig, TRANSLATION, BETTER)
    shown = await model(rig)
    assert (shown["state"], shown["technical_model_name"]) == ("READY", "models/other.gguf")
    assert FAULT in shown["last_error"]
    assert "models/better.gguf" in shown["last_error"]
    assert 0 < shown["retry_after_s"] <= states.COOLDOWN_FIRST_S
    health = (await rig.client.get("/health")).json()
    assert health["status"] == "degraded"
    assert FAULT in health["failed_changes"][0]
    assert (await rig.client.get("/health/ready")).status_code == 200
    answer = await ask(rig, TRANSLATION)
    assert (answer.status_code, answer.json()["model"]) == (200, "models/other.gguf")


async def test_it_is_tried_again_by_itself_and_takes_over(rig: Rig, no_cooldown: None) -> None:
    await fail_to_replace(rig, TRANSLATION, BETTER)
    await beats(rig, 1)
    await rig.until(lambda: rig.builder.builds == 3 and bool(rig.lifecycle.failed_changes))
    mend(rig)
    await beats(rig, 1)
    await rig.until(lambda: rig.lifecycle.view(TRANSLATION).version == NEXT)
    shown = await model(rig)
    assert (shown["technical_model_name"], shown["last_error"]) == ("models/better.gguf", None)
    assert rig.lifecycle.failed_changes == []
    await rig.until(lambda: rig.torchserve.unregistered == [TRANSLATION])


async def test_it_is_not_tried_again_before_it_has_cooled(rig: Rig) -> None:
    await fail_to_replace(rig, TRANSLATION, BETTER)
    builds = rig.builder.builds
    await beats(rig)
    assert rig.builder.builds == builds


@pytest.mark.parametrize("how", ["/admin/reload", "/admin/models/translation/load"])
async def test_an_operator_tries_it_again_at_once(rig: Rig, how: str) -> None:
    await fail_to_replace(rig, TRANSLATION, BETTER)
    mend(rig)
    assert (await rig.client.post(how)).status_code == 200
    await rig.until(lambda: rig.lifecycle.view(TRANSLATION).version == NEXT)
    assert (await model(rig))["last_error"] is None


async def test_an_operator_who_loads_it_is_told_that_it_fails_again(rig: Rig) -> None:
    await fail_to_replace(rig, TRANSLATION, BETTER)
    answer = await rig.client.post("/admin/models/translation/load")
    assert answer.status_code == 503
    assert FAULT in answer.json()["error"]["message"]
    assert (await ask(rig, TRANSLATION)).status_code == 200


async def test_an_edit_back_forgets_it_and_loads_nothing(rig: Rig) -> None:
    await fail_to_replace(rig, TRANSLATION, BETTER)
    edit(rig)
    await reload(rig)
    shown = await model(rig)
    assert (shown["state"], shown["last_error"], rig.lifecycle.failed_changes) == ("READY", None, [])
    assert len(rig.torchserve.registered) == 1


async def test_another_edit_replaces_it(rig: Rig) -> None:
    await fail_to_replace(rig, TRANSLATION, BETTER)
    mend(rig)
    edit(rig, ("models/other", "models/best"))
    await reload(rig)
    await rig.until(lambda: rig.lifecycle.view(TRANSLATION).version == NEXT)
    assert (await model(rig))["technical_model_name"] == "models/best.gguf"
    assert rig.lifecycle.failed_changes == []


async def test_an_edit_of_something_else_while_it_loads_does_not_load_it_twice(rig: Rig) -> None:
    await ask(rig, TRANSLATION)
    rig.builder.version = NEXT
    rig.torchserve.may_load.clear()
    edit(rig, BETTER)
    await reload(rig)
    await rig.until(lambda: len(rig.torchserve.registered) == 2)
    edit(rig, BETTER, ("You are kind.", "You are brief."))
    await reload(rig)
    assert (await model(rig))["technical_model_name"] == "models/other.gguf"
    rig.torchserve.may_load.set()
    await rig.until(lambda: rig.lifecycle.view(TRANSLATION).version == NEXT)
    assert len(rig.torchserve.registered) == 2


async def test_once_the_old_model_is_unloaded_the_row_belongs_to_the_new_one(rig: Rig) -> None:
    await fail_to_replace(rig, TRANSLATION, BETTER)
    assert (await rig.client.post("/admin/models/translation/unload")).status_code == 200
    await beats(rig)
    assert (await model(rig))["technical_model_name"] == "models/better.gguf"
    answer = await ask(rig, TRANSLATION)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_load_failed")


async def test_a_resident_row_recovers_by_itself_after_the_old_model_is_gone(
    rig: Rig, no_cooldown: None
) -> None:
    await fail_to_replace(rig, CHAT, ("`models/small.gguf` | true", "`models/large.gguf` | true"))
    (worker,) = rig.torchserve.workers(CHAT)
    await worker.kill()
    await beats(rig)
    mend(rig)
    await rig.until(lambda: rig.lifecycle.view(CHAT).state is State.READY)
    await beats(rig)
    await rig.until(lambda: rig.lifecycle.view(CHAT).version == NEXT)


async def test_a_row_that_leaves_a_shared_model_is_served_by_it_until_its_own_is_there(rig: Rig) -> None:
    await fail_to_replace(rig, CHAT, ("`models/small.gguf` | true", "`models/large.gguf` | true"))
    chat, legal = await model(rig, CHAT), await model(rig, "legal_analysis")
    assert [m["technical_model_name"] for m in (chat, legal)] == ["models/small.gguf"] * 2
    assert FAULT in chat["last_error"]
    assert legal["last_error"] is None
    for category in (CHAT, "legal_analysis"):
        assert (await ask(rig, category)).status_code == 200
    mend(rig)
    assert (await rig.client.post(f"/admin/models/{CHAT}/load")).status_code == 200
    assert (await model(rig, CHAT))["technical_model_name"] == "models/large.gguf"
    assert (await model(rig, "legal_analysis"))["state"] == "READY"
    assert len(rig.torchserve.registered) == 2
    assert not rig.torchserve.unregistered


async def test_a_new_row_on_the_failing_model_is_refused_with_the_cause(rig: Rig) -> None:
    row = "| Poetry | Better | ~1GB | `models/better.gguf` | false | Q4_1 |\n"
    text = SETTINGS.replace("\n## Engine", row + "\n## Engine")
    await ask(rig, TRANSLATION)
    rig.builder.fault = FAULT
    edit(rig, BETTER, text=text)
    await reload(rig)
    await rig.until(lambda: bool(rig.lifecycle.failed_changes))
    assert FAULT in (await ask(rig, "poetry")).json()["error"]["message"]
    assert (await ask(rig, TRANSLATION)).status_code == 200


async def test_no_room_beside_the_old_model_leaves_it_alone_at_the_next_attempt(
    make_rig: MakeRig, no_cooldown: None
) -> None:
    async with make_rig(budget=int(2.5 * GB)) as rig:
        rig.torchserve.memory = GB
        await fail_to_replace(rig, TRANSLATION, BETTER)
        mend(rig)
        await ask(rig, CHAT)
        await beats(rig)
        assert (await model(rig))["technical_model_name"] == "models/other.gguf"
        assert rig.torchserve.unregistered == []


async def test_another_name_for_the_same_content_keeps_the_worker(rig: Rig) -> None:
    await ask(rig, TRANSLATION)
    (worker,) = rig.torchserve.workers(TRANSLATION)
    edit(rig, BETTER)
    await reload(rig)
    await rig.until(
        lambda: rig.lifecycle.view(TRANSLATION).row(TRANSLATION).ref.source == "models/better.gguf"
    )
    await beats(rig)
    assert (await ask(rig, TRANSLATION)).status_code == 200
    assert rig.torchserve.workers(TRANSLATION) == [worker]
    assert rig.torchserve.unregistered == []
    assert len(rig.lifecycle._table.entries) == 2
