"""Lifecycle of models: the same tests over the fake TorchServe and over a real `conductor serve`."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.conductor_admin.conftest import make_rig, state
from tests.conductor_admin.gateway_rig import MakeRig
from tests.contract.lifecycle_subjects import BROKEN, CHAT, LEGAL, MODEL, Fake, Real, Subject, table
from tests.serving import Serving, serving
from tests.torchserve_process import ROOT

__all__ = ["make_rig", "state"]

pytestmark = pytest.mark.e2e

PATIENCE_S = 60
SHORT = {"prompt": "Say hello.", "max_tokens": 4}
LONG = {"prompt": "Tell me a very long story about the sea.", "max_tokens": 400, "seed": 7}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Serving, Path]]:
    with tempfile.TemporaryDirectory(prefix="cl-") as name:
        folder = Path(name)
        (ROOT / "models").mkdir(exist_ok=True)
        (folder / "models").symlink_to(ROOT / "models")
        (folder / "broken.gguf").write_bytes(b"no GGUF at all")
        settings = folder / "SETTINGS.md"
        settings.write_text(table(MODEL))
        with serving(folder / "state", settings=settings) as server:
            server.wait_until_ready()
            yield server, settings


@pytest.fixture(params=["fake", "real"])
async def subject(request: pytest.FixtureRequest, make_rig: MakeRig) -> AsyncIterator[Subject]:
    """A gateway with the usual table; its model may be loaded or not."""
    if request.param == "fake":
        async with make_rig() as rig:
            subject: Subject = Fake(rig)
            await edit(subject)
            yield subject
        return
    server, settings = request.getfixturevalue("served")
    async with server.async_client() as client:
        subject = Real(server, client, settings)
        await edit(subject)
        yield subject


@pytest.fixture
async def cold(subject: Subject) -> Subject:
    """The gateway with nothing loaded."""
    for slug in (CHAT, BROKEN):
        await subject.client.post(f"/admin/models/{slug}/unload?force=true")
    return subject


async def ask(subject: Subject, category: str = CHAT, **fields: Any) -> httpx2.Response:
    return await subject.client.post("/generate", json={**SHORT, "category": category, **fields})


async def edit(subject: Subject, **changes: str) -> None:
    """Write the table, and wait until it is in force."""
    subject.settings.write_text(subject.table(**changes))
    answer = await subject.client.post("/admin/reload")
    assert answer.status_code == 200, answer.text


async def row(subject: Subject, category: str = CHAT) -> dict[str, Any]:
    return dict((await subject.client.get(f"/models/{category}")).json())


async def seen(subject: Subject, fact: Callable[[dict[str, Any]], bool], category: str = CHAT) -> None:
    """Wait until `fact` is true of the row."""
    async with asyncio.timeout(PATIENCE_S):
        while not fact(await row(subject, category)):
            await asyncio.sleep(0.02)


@asynccontextmanager
async def long_answer(subject: Subject) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of a stream that has begun and goes on until the subject releases answers."""
    subject.hold_answers()
    body = {**LONG, "category": CHAT}
    async with subject.client.stream("POST", "/generate/stream", json=body) as response:
        lines = response.aiter_lines()
        async for line in lines:
            if line.startswith("data:"):
                break
        yield lines


async def test_a_request_loads_what_is_not_there(cold: Subject) -> None:
    assert (await row(cold))["state"] == "UNAVAILABLE"
    before = cold.loads()
    assert (await ask(cold)).status_code == 200
    assert (await row(cold))["state"] == "READY"
    assert (await row(cold))["memory"]["measured"] > 0
    assert cold.loads() == before + 1


async def test_fifty_first_requests_cause_one_load(cold: Subject) -> None:
    before = cold.loads()
    cold.hold_loads()
    asking = asyncio.gather(*(ask(cold, (CHAT, LEGAL)[i % 2]) for i in range(50)))
    await seen(cold, lambda found: found["state"] == "LOADING")
    cold.let_loads_go()
    assert {answer.status_code for answer in await asking} == {200}
    assert cold.loads() == before + 1


async def test_a_waiter_that_leaves_does_not_abort_the_load(cold: Subject) -> None:
    cold.hold_loads()
    leaving = asyncio.create_task(ask(cold))
    await seen(cold, lambda found: found["state"] == "LOADING")
    leaving.cancel()
    await asyncio.wait({leaving})
    cold.let_loads_go()
    await seen(cold, lambda found: found["state"] == "READY")


async def test_a_stream_tells_what_it_waits_for(cold: Subject) -> None:
    cold.hold_loads()
    body = {**SHORT, "category": CHAT, "stream": True}
    async with cold.client.stream("POST", "/generate", json=body) as response:
        lines = [line async for line in _letting_go(cold, response.aiter_lines()) if line]
    assert lines[0].startswith(f": loading {CHAT}")
    assert lines[-1] == "data: [DONE]"


async def _letting_go(subject: Subject, lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        subject.let_loads_go()
        yield line


async def test_patience_ends_with_retry_after_and_the_load_goes_on(cold: Subject) -> None:
    cold.hold_loads()
    answer = await ask(cold, max_wait_s=0.3)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")
    assert int(answer.headers["retry-after"]) >= 1
    cold.let_loads_go()
    await seen(cold, lambda found: found["state"] == "READY")


async def test_a_failed_load_tells_every_waiter_the_cause(cold: Subject) -> None:
    answers = await asyncio.gather(*(ask(cold, BROKEN) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {503}
    (error,) = {orjson.dumps(answer.json()["error"]) for answer in answers}
    assert orjson.loads(error)["code"] == "model_load_failed"
    assert "broken.gguf" in orjson.loads(error)["message"]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
    found = await row(cold, BROKEN)
    assert (found["state"], found["last_error"] in orjson.loads(error)["message"]) == ("FAILED", True)


async def test_rows_of_equal_weights_share_one_set(cold: Subject) -> None:
    before = cold.loads()
    assert (await ask(cold, LEGAL)).status_code == 200
    assert (await ask(cold, CHAT)).status_code == 200
    assert cold.loads() == before + 1
    chat, legal = await row(cold), await row(cold, LEGAL)
    assert (chat["shared_with"], legal["shared_with"]) == ([LEGAL], [CHAT])
    assert chat["workers"] == legal["workers"]
    refused = await cold.client.post(f"/admin/models/{LEGAL}/unload")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model_in_use")
    assert (await ask(cold, CHAT)).status_code == 200
    forced = await cold.client.post(f"/admin/models/{LEGAL}/unload?force=true")
    assert forced.json()["state"] == "UNAVAILABLE"


async def test_an_unload_waits_for_running_answers(subject: Subject) -> None:
    async with long_answer(subject) as lines:
        unloading = asyncio.create_task(subject.client.post(f"/admin/models/{CHAT}/unload"))
        await seen(subject, lambda found: found["state"] == "UNLOADING")
        subject.let_answers_go()
        assert [line async for line in lines if line][-1] == "data: [DONE]"
    assert (await unloading).json()["state"] == "UNAVAILABLE"


async def test_an_unload_now_ends_them_with_the_reason(subject: Subject) -> None:
    async with long_answer(subject) as lines:
        reply = await subject.client.post(f"/admin/models/{CHAT}/unload?mode=now")
        assert reply.json()["state"] == "UNAVAILABLE"
        last = [line async for line in lines if line][-1]
    assert orjson.loads(last[6:])["error"]["code"] == "model_unloaded"
    assert (await row(subject))["workers"] == []


async def test_a_persona_applies_without_a_load(subject: Subject) -> None:
    await ask(subject)
    before, pids = subject.loads(), (await row(subject))["workers"][0]["pid"]
    await edit(subject, persona="You are brief.")
    assert (await ask(subject)).status_code == 200
    assert (subject.loads(), (await row(subject))["workers"][0]["pid"]) == (before, pids)


async def test_a_renamed_row_goes_on_with_its_workers(subject: Subject) -> None:
    await ask(subject)
    before, workers = subject.loads(), (await row(subject))["workers"]
    await edit(subject, category="Creative Writing")
    assert (await ask(subject, CHAT)).status_code == 404
    assert (await ask(subject, "creative_writing")).status_code == 200
    assert subject.loads() == before
    assert (await row(subject, "creative_writing"))["workers"][0]["pid"] == workers[0]["pid"]


async def test_a_changed_row_is_replaced_while_it_serves(subject: Subject) -> None:
    await ask(subject)
    old = (await row(subject))["version"]
    await edit(subject, context="1024")
    answers = [await ask(subject)]
    async with asyncio.timeout(PATIENCE_S):
        while (await row(subject))["version"] == old:
            answers.append(await ask(subject))
    answers.append(await ask(subject))
    assert {answer.status_code for answer in answers} == {200}
    await seen(subject, lambda found: len(found["workers"]) == 1)


async def test_a_broken_edit_changes_nothing_and_names_its_place(subject: Subject) -> None:
    await ask(subject)
    subject.settings.write_text(subject.table(context="long"))
    refused = await subject.client.post("/admin/reload")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_settings")
    assert refused.json()["error"]["message"].startswith("SETTINGS.md:7:")
    assert (await subject.client.get("/health")).json()["settings"]["errors"]
    assert (await ask(subject)).status_code == 200
