"""Sessions over HTTP: history in prompts, stored turns, busy sessions, and the routes of `/sessions`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import orjson
import pytest

from conductor_admin.auth.caller import ANYONE
from conductor_admin.auth.keys import KeyBody
from conductor_admin.auth.keys_file import KeysFile
from conductor_admin.lifecycle.leases import LeaseRequest
from conductor_admin.planner import plan
from conductor_admin.sessions import turns
from conductor_admin.sessions.models import Session
from conductor_admin.sessions.service import Sessions
from conductor_admin.workers.worker import best_worker
from conductor_core.settings.parser import parse_settings
from handlers.wire import GenerateBody
from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import OWNER_TOKEN, SETTINGS, MakeRig, Rig
from tests.conductor_admin.some_workers import some_worker

CHAT = "conversational_chat"


async def say(rig: Rig, prompt: str = "count", **fields: Any) -> dict[str, Any]:
    """Send a turn that succeeds; return its answer."""
    answer = await rig.client.post("/generate", json={"prompt": prompt, **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def refusal(rig: Rig, **body: Any) -> tuple[int, str]:
    answer = await rig.client.post("/generate", json={"prompt": "x", **body})
    return answer.status_code, answer.json()["error"]["code"]


async def read(rig: Rig, session_id: str) -> dict[str, Any]:
    answer = await rig.client.get(f"/sessions/{session_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def asked(rig: Rig) -> list[dict[str, Any]]:
    """Requests that the chat worker got, in order."""
    (worker,) = rig.torchserve.workers(CHAT)
    return worker.requests


def told(request: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in request["messages"]]


async def test_a_session_tells_the_model_what_was_said_before(rig: Rig) -> None:
    first = await say(rig, "one", session="new")
    session = first["session_id"]
    second = await say(rig, "two", session_id=session)
    assert second["session_id"] == session
    await rig.client.post("/generate/stream", json={"prompt": "three", "session_id": session})
    answer = ("assistant", "one two three")
    assert told(asked(rig)[-1]) == [("user", "one"), answer, ("user", "two"), answer, ("user", "three")]
    kept = await read(rig, session)
    assert [turn["user"] for turn in kept["turns"]] == ["one", "two", "three"]
    assert (kept["title"], kept["category"], kept["turn_count"]) == ("one", CHAT, 3)
    assert kept["turns"][0] == {
        "number": 1,
        "user": "one",
        "assistant": "one two three",
        "state": "complete",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
        "model": "models/small.gguf",
        "category": CHAT,
        "created": kept["turns"][0]["created"],
    }


async def test_the_session_is_named_in_header_answer_and_last_record(rig: Rig) -> None:
    whole = await rig.client.post("/generate", json={"prompt": "x", "session": True})
    session = whole.json()["session_id"]
    assert whole.headers["x-conductor-session"] == session
    body = {"prompt": "x", "session_id": session}
    events = await rig.client.post("/generate/stream", json=body)
    assert events.headers["x-conductor-session"] == session
    assert orjson.loads(events.text.split("data: ")[-2])["session_id"] == session
    lines = await rig.client.post(f"/predictions/{CHAT}", json={**body, "stream": True})
    assert lines.headers["x-conductor-session"] == session
    assert orjson.loads(lines.text.splitlines()[-1])["done"]["session_id"] == session
    plain = await rig.client.post(f"/predictions/{CHAT}", json=body)
    assert plain.json()["session_id"] == session
    assert "x-conductor-session" not in (await rig.client.post("/generate", json={"prompt": "x"})).headers


async def test_a_persona_is_the_sessions_or_for_one_request(rig: Rig) -> None:
    session = (await say(rig, session="new", persona="pirate"))["session_id"]
    await say(rig, session_id=session)
    assert [request["system"] for request in asked(rig)] == ["You are a pirate."] * 2
    changed = await rig.client.patch(f"/sessions/{session}", json={"persona": None})
    assert changed.json()["persona"] is None
    await say(rig, session_id=session, persona="PIRATE")
    await say(rig, session_id=session)
    assert [request["system"] for request in asked(rig)[2:]] == ["You are a pirate.", "You are kind."]


async def test_a_protocol_that_plans_without_the_session_gets_its_persona_all_the_same(rig: Rig) -> None:
    session = (await say(rig, session="new", persona="pirate"))["session_id"]
    body = GenerateBody(prompt="x", session_id=session)
    await rig.gateway.dispatcher.result(plan(rig.gateway.catalogue, body, "r", caller=ANYONE))
    assert asked(rig)[-1]["system"] == "You are a pirate."


async def test_a_session_goes_on_with_its_own_category(rig: Rig) -> None:
    session = (await say(rig, session="new", category=CHAT))["session_id"]
    assert (await say(rig, session_id=session))["category"] == CHAT


async def test_messages_are_the_new_turn_and_may_replace_the_persona(rig: Rig) -> None:
    session = (await say(rig, session="new"))["session_id"]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Again."}]
    answer = await rig.client.post("/generate", json={"messages": messages, "session_id": session})
    assert answer.status_code == 200
    assert told(asked(rig)[-1])[2:] == [("system", "Be brief."), ("user", "Again.")]
    assert (await read(rig, session))["turns"][1]["user"] == "Again."
    history = [*messages, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Yes."}]
    for wrong in (history, history[:1], history[:3]):
        refused = await rig.client.post("/generate", json={"messages": wrong, "session_id": session})
        assert refused.json()["error"]["code"] == "invalid_session_messages"


@pytest.mark.parametrize("session_id", ["nothing", "a" * 32, "'; drop table turns; --", "../x", "é\x00"])
async def test_an_unknown_session_is_not_found(rig: Rig, session_id: str) -> None:
    assert await refusal(rig, session_id=session_id) == (404, "session_not_found")
    assert not rig.torchserve.registered


async def test_an_engine_without_conversation_keeps_no_session(rig: Rig) -> None:
    assert await refusal(rig, session="new", category="translation") == (400, "no_session")
    assert not rig.torchserve.registered
    assert (await rig.client.get("/sessions")).json() == {"sessions": [], "next": None}


def test_history_tokens_of_the_settings_are_for_the_engine_of_the_row_alone() -> None:
    table = "| Category | history_tokens |\n|---|---|\n| Conversational Chat | 500 |\n"
    catalogue = parse_settings(f"{SETTINGS}\n{table}")
    body = GenerateBody(prompt="x")
    assert plan(catalogue, body, "r", caller=ANYONE).request.options == {"history_tokens": 500}
    other = body.model_copy(update={"engine": "translation"})
    assert plan(catalogue, other, "r", caller=ANYONE).request.options == {}


async def test_a_full_session_says_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_TURNS", 2)
    session = (await say(rig, session="new"))["session_id"]
    await say(rig, session_id=session)
    assert await refusal(rig, session_id=session) == (409, "session_full")


@dataclass
class Held:
    """A model that has sent `one two` and waits for `go_on`."""

    go_on: asyncio.Event

    async def script(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": "nonsense"}
        yield {"attempt": 2}
        yield {"delta": "one"}
        yield {"delta": " two"}
        await self.go_on.wait()
        yield done("one two three")


@pytest.fixture
def held(rig: Rig) -> Held:
    held = Held(asyncio.Event())
    rig.torchserve.script = held.script
    return held


async def until_two(stream: httpx2.Response) -> AsyncIterator[str]:
    """Read up to ` two`, and return the iterator over the rest."""
    lines = stream.aiter_lines()
    async for line in lines:
        if " two" in line:
            return lines
    raise AssertionError("the stream has ended")


async def test_a_busy_session_refuses_a_second_request_and_its_deletion(rig: Rig, held: Held) -> None:
    async with rig.client.stream(
        "POST", "/generate/stream", json={"prompt": "x", "session": "new"}
    ) as stream:
        session = stream.headers["x-conductor-session"]
        rest = await until_two(stream)
        assert await refusal(rig, session_id=session) == (409, "session_busy")
        gone = await rig.client.delete(f"/sessions/{session}")
        assert (gone.status_code, gone.headers["retry-after"]) == (409, "1")
        held.go_on.set()
        assert [line async for line in rest][-2] == "data: [DONE]"
    assert (await say(rig, session_id=session))["text"] == "one two three"


async def test_a_client_that_leaves_keeps_the_part_that_was_sent(rig: Rig, held: Held) -> None:
    async with rig.client.stream(
        "POST", "/generate/stream", json={"prompt": "x", "session": "new"}
    ) as stream:
        session = stream.headers["x-conductor-session"]
        await until_two(stream)
    async with asyncio.timeout(5):
        while (answer := await rig.client.get(f"/sessions/{session}")).status_code == 404:
            pass
    (turn,) = answer.json()["turns"]
    assert (turn["assistant"], turn["state"], turn["finish_reason"]) == ("one two", "cancelled", "cancelled")
    held.go_on.set()
    await say(rig, "go on", session_id=session)
    assert told(asked(rig)[-1]) == [("user", "x"), ("assistant", "one two"), ("user", "go on")]
    assert [turn["state"] for turn in (await read(rig, session))["turns"]] == ["cancelled", "complete"]


async def test_a_client_that_leaves_before_it_was_sent_anything_keeps_nothing(rig: Rig, held: Held) -> None:
    body = {"prompt": "x", "session": "new"}
    asking = asyncio.create_task(rig.client.post("/generate", json=body))
    await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 1 and bool(asked(rig)))
    asking.cancel()
    await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 0)
    assert (await rig.client.get("/sessions")).json()["sessions"] == []


async def test_a_killed_worker_keeps_the_part_that_was_sent(rig: Rig, held: Held) -> None:
    async with rig.client.stream(
        "POST", "/generate/stream", json={"prompt": "x", "session": "new"}
    ) as stream:
        session = stream.headers["x-conductor-session"]
        rest = await until_two(stream)
        await rig.torchserve.workers(CHAT)[0].kill()
        assert "worker_died" in "".join([line async for line in rest])
    (turn,) = (await read(rig, session))["turns"]
    assert (turn["assistant"], turn["state"]) == ("one two", "cancelled")


async def test_of_two_attempts_the_last_text_is_kept(rig: Rig, held: Held) -> None:
    held.go_on.set()
    session = (await say(rig, session="new"))["session_id"]
    assert (await read(rig, session))["turns"][0]["assistant"] == "one two three"


async def test_a_failed_first_turn_leaves_no_session(rig: Rig) -> None:
    rig.builder.fault = "no such weights"
    assert await refusal(rig, session="new") == (503, "model_load_failed")
    assert (await rig.client.get("/sessions")).json()["sessions"] == []


async def test_an_answer_that_cannot_be_kept_is_given_and_says_so(rig: Rig) -> None:
    session = (await say(rig, session="new"))["session_id"]
    opened = rig.gateway.sessions.store._opened
    assert opened
    async with opened.connect() as connection:
        await connection.exec_driver_sql("pragma query_only=on")
    answer = await say(rig, session_id=session)
    assert answer["text"] == "one two three"
    assert "not saved" in answer["findings"]["warnings"][0]


async def test_a_session_lives_on_in_the_next_gateway(make_rig: MakeRig) -> None:
    async with make_rig() as rig:
        session = (await say(rig, "one", session="new"))["session_id"]
    async with make_rig() as rig:
        await say(rig, "two", session_id=session)
        assert [turn["user"] for turn in (await read(rig, session))["turns"]] == ["one", "two"]


async def test_sessions_are_listed_with_the_last_used_first_page_by_page(rig: Rig) -> None:
    made = [(await say(rig, f"number {n}", session="new"))["session_id"] for n in range(5)]
    await say(rig, session_id=made[0])
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await rig.client.get("/sessions", params=query)).json()
        seen += [one["id"] for one in page["sessions"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert seen == [made[0], *made[:0:-1]]
    assert page["sessions"][0]["title"] == "number 1"
    assert "turns" not in page["sessions"][0]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "limit=" + "9" * 5000, "cursor=x", "cursor=bmFuIHg="]
)
async def test_a_wrong_query_is_400(rig: Rig, query: str) -> None:
    answer = await rig.client.get(f"/sessions?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.split("=")[0])


async def test_a_session_is_renamed_and_deleted(rig: Rig) -> None:
    session = (await say(rig, session="new"))["session_id"]
    renamed = await rig.client.patch(f"/sessions/{session}", json={"title": "Counting"})
    assert renamed.json()["title"] == "Counting"
    assert (await rig.client.delete(f"/sessions/{session}")).json() == {"id": session, "deleted": True}
    for answer in (
        await rig.client.get(f"/sessions/{session}"),
        await rig.client.patch(f"/sessions/{session}", json={"title": "x"}),
        await rig.client.delete(f"/sessions/{session}"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "session_not_found")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"title": ""}, 400, "invalid_value"),
        ({"title": None}, 400, "invalid_value"),
        ({"title": "x" * 201}, 400, "invalid_value"),
        ({"colour": "red"}, 400, "unknown_field"),
        ({"persona": "nobody"}, 404, "persona_not_found"),
        ({}, 200, None),
    ],
)
async def test_a_wrong_change_is_refused(
    rig: Rig, change: dict[str, Any], status: int, code: str | None
) -> None:
    session = (await say(rig, session="new"))["session_id"]
    answer = await rig.client.patch(f"/sessions/{session}", json=change)
    assert (answer.status_code, answer.json().get("error", {}).get("code")) == (status, code)
    assert (await read(rig, session))["title"] == "count"


async def test_the_routes_are_in_the_openapi_document(rig: Rig) -> None:
    document = (await rig.client.get("/openapi.json")).json()
    assert {"get"} == document["paths"]["/sessions"].keys()
    assert {"get", "patch", "delete"} == document["paths"]["/sessions/{session_id}"].keys()
    assert document["components"]["schemas"]["SessionChange"]["additionalProperties"] is False


async def test_a_session_belongs_to_the_key_that_began_it(rig: Rig) -> None:
    file = KeysFile(rig.state)
    ada, bob = (file.create(KeyBody(name=name))[1] for name in ("ada", "bob"))

    async def call(key: str, method: str, path: str, **body: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {key}"}
        return await rig.client.request(method, path, headers=headers, json=body or None)

    made = await call(ada, "POST", "/generate", prompt="mine", session="new")
    session = made.json()["session_id"]
    for key in (bob, OWNER_TOKEN):
        assert (await call(key, "GET", "/sessions")).json()["sessions"] == []
        refused = [
            await call(key, "GET", f"/sessions/{session}"),
            await call(key, "PATCH", f"/sessions/{session}", title="x"),
            await call(key, "DELETE", f"/sessions/{session}"),
            await call(key, "POST", "/generate", prompt="x", session_id=session),
        ]
        assert {(one.status_code, one.json()["error"]["code"]) for one in refused} == {
            (404, "session_not_found")
        }
    assert (await call(ada, "POST", "/generate", prompt="x", session_id=session)).status_code == 200


@pytest.mark.parametrize(
    ("loads", "preferred", "chosen"),
    [
        ({1: 0, 2: 0}, 2, 2),
        ({1: 0, 2: 3}, 2, 2),
        ({1: 0, 2: 4}, 2, 1),
        ({1: 5, 2: 8}, 2, 2),
        ({1: 5, 2: 9, 3: 6}, 2, 1),
        ({1: 3, 3: 1}, 2, 3),
        ({1: 3, 3: 1}, None, 3),
        ({1: 9}, 1, 1),
        ({}, 1, None),
    ],
)
def test_a_session_stays_with_its_worker_unless_that_is_gone_or_four_requests_busier(
    loads: dict[int, int], preferred: int | None, chosen: int | None
) -> None:
    best = best_worker([some_worker(pid, count) for pid, count in loads.items()], preferred)
    assert (best.pid if best else None) == chosen


async def test_the_worker_that_answered_is_the_one_that_is_preferred_next(rig: Rig) -> None:
    session = (await say(rig, session="new"))["session_id"]
    (worker,) = rig.torchserve.workers(CHAT)
    assert rig.gateway.sessions._affinity(session).pid == worker.pid


async def test_a_lease_is_on_the_preferred_worker_while_it_is_there(rig: Rig) -> None:
    await say(rig)
    entry = rig.lifecycle._table.named(CHAT)
    (worker,) = entry.load.workers.values()
    entry.load.workers[1] = replace(worker, pid=1)
    for preferred, pid in ((1, 1), (worker.pid, worker.pid), (77, worker.pid)):
        async with rig.lifecycle.lease(LeaseRequest(CHAT, prefers=preferred)) as lease:
            assert lease.pid == pid
    del entry.load.workers[1]


async def test_only_so_many_places_are_remembered(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conductor_admin.sessions.service._AFFINITIES", 2)
    sessions: Sessions = rig.gateway.sessions
    first = sessions._affinity("a")
    sessions._affinity("b")
    assert sessions._affinity("a") is first
    sessions._affinity("c")
    assert sessions._affinity("a") is first
    assert list(sessions._affinities) == ["c", "a"]


def test_a_session_shows_no_owner() -> None:
    shown = Session("a", "key", "t", None, "c", 1.0, 2.0).to_json()
    assert "owner" not in shown
