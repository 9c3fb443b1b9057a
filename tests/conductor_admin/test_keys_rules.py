"""Rules of keys and their lifetime: changed files, rates, categories, loads, the audit log."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.datastructures import Headers

from conductor_admin.auth.authenticator import Authenticator
from conductor_admin.auth.caller import Caller, RateLimit
from conductor_admin.auth.keys import KeyBody
from conductor_admin.auth.keys_file import KeysFile, KeysFileError
from conductor_admin.auth.rate_limits import Quotas
from conductor_admin.lifecycle.states import State
from conductor_core.paths import StateDir
from handlers.wire import RequestError
from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import GB, OWNER_TOKEN, MakeRig, Rig
from tests.conductor_admin.key_rig import Keys, bearer


def key(rig: Rig, name: str = "k", **rules: Any) -> dict[str, str]:
    """The header of a new key with these rules."""
    return bearer(rig.gateway.keys.file.create(KeyBody(name=name, **rules))[1])


async def ask(rig: Rig, who: dict[str, str], category: str = "conversational_chat", **more: Any) -> Any:
    body = {"prompt": "x", "category": category, **more}
    return await rig.client.post("/generate", json=body, headers=who)


def code(response: Any) -> str:
    return str(response.json()["error"]["code"])


class Held:
    """Workers that send one piece, and the rest once they are released."""

    def __init__(self, rig: Rig) -> None:
        self.may_end = asyncio.Event()
        rig.torchserve.script = self._answer

    async def _answer(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": "one"}
        await self.may_end.wait()
        yield done("one")


async def test_the_first_key_closes_the_gateway_and_no_revocation_opens_it(rig: Rig) -> None:
    assert (await rig.client.get("/models")).status_code == 200
    who = key(rig)
    assert (await rig.client.get("/models")).status_code == 401
    assert (await rig.client.get("/models", headers=who)).status_code == 200
    rig.gateway.keys.file.revoke("k")
    assert (await rig.client.get("/models", headers=who)).status_code == 401
    assert (await rig.client.get("/models")).status_code == 401
    assert (await rig.client.get("/models", headers=bearer(OWNER_TOKEN))).status_code == 200


@pytest.mark.parametrize("broken", [None, "{", "[]", '{"schema_version": 2, "keys": []}', '{"keys": [{}]}'])
async def test_a_file_that_breaks_or_goes_opens_nothing(keys: Keys, broken: str | None) -> None:
    assert (await keys.ask("GET", "/models", keys.infer)).status_code == 200
    path = keys.rig.state.keys_file
    path.unlink() if broken is None else path.write_text(broken)
    assert (await keys.ask("GET", "/models", keys.infer)).status_code == 200
    assert (await keys.ask("GET", "/models", None)).status_code == 401
    if broken is not None:
        with pytest.raises(KeysFileError, match=r"keys\.json"):
            Authenticator(KeysFile(keys.rig.state))


async def test_a_gateway_that_other_machines_reach_is_never_open(state: StateDir) -> None:
    assert Authenticator(KeysFile(state)).is_open
    assert not Authenticator(KeysFile(state), always_closed=True).is_open


async def test_an_expired_key_is_no_key(rig: Rig) -> None:
    late = key(rig, "late", expires=time.time() - 1)
    good = key(rig, "good", expires=time.time() + 1000)
    assert (await rig.client.get("/models", headers=late)).status_code == 401
    assert (await rig.client.get("/models", headers=good)).status_code == 200


@pytest.mark.parametrize("way", ["file", "route"])
async def test_a_revoked_key_ends_what_runs_with_it_and_nothing_else(rig: Rig, way: str) -> None:
    held, gone, stays = Held(rig), key(rig, "gone"), key(rig, "stays")
    body = {"prompt": "x"}
    async with (
        rig.client.stream("POST", "/generate/stream", json=body, headers=gone) as first,
        rig.client.stream("POST", "/generate/stream", json=body, headers=stays) as second,
    ):
        pieces, others = first.aiter_raw(), second.aiter_raw()
        assert b"one" in await anext(pieces)
        assert b"one" in await anext(others)
        if way == "file":
            rig.gateway.keys.file.revoke("gone")
            rig.gateway.keys.look()  # as every beat does
        else:
            await rig.client.delete("/admin/keys/gone", headers=bearer(OWNER_TOKEN))
        await rig.until(lambda: rig.lifecycle.view("conversational_chat").in_flight == 1)
        held.may_end.set()
        assert b"[DONE]" in b"".join([piece async for piece in others])


async def test_a_key_is_revoked_while_what_runs_with_it_takes_its_time_to_end(rig: Rig) -> None:
    ring, who = rig.gateway.keys, key(rig)
    caller = ring.caller(Headers(who))
    may_end, ended = asyncio.Event(), []

    async def running() -> None:
        with contextlib.suppress(TimeoutError):
            async with ring.while_valid(caller):
                try:
                    await asyncio.Event().wait()
                finally:
                    await may_end.wait()
                    ended.append(True)

    slow = asyncio.create_task(running())
    await asyncio.sleep(0)
    revoked = await rig.client.delete("/admin/keys/k", headers=bearer(OWNER_TOKEN))
    assert (revoked.status_code, ended) == (200, [])
    may_end.set()
    await asyncio.wait_for(slow, 5)


async def test_keys_are_made_listed_changed_and_revoked_over_http(keys: Keys) -> None:
    async def admin(method: str, path: str, **more: Any) -> Any:
        return await keys.ask(method, path, keys.admin, **more)

    made = await admin("POST", "/admin/keys", json={"name": "new", "streams": 2})
    assert made.status_code == 201
    text, key_id = made.json()["key"], made.json()["id"]
    assert (await keys.ask("GET", "/models", text)).status_code == 200
    shown = (await admin("GET", f"/admin/keys/{key_id}")).json()
    assert (shown["name"], shown["streams"]) == ("new", 2)
    assert shown["last_used"] > 0
    listed = await admin("GET", "/admin/keys")
    assert [one["name"] for one in listed.json()["keys"]] == ["infer", "admin", "both", "new"]
    assert text not in listed.text
    assert "hash" not in listed.text
    changed = await admin("PATCH", "/admin/keys/new", json={"streams": None, "may_load": False})
    assert (changed.json()["streams"], changed.json()["may_load"]) == (None, False)
    assert (await admin("DELETE", f"/admin/keys/{key_id}")).status_code == 200
    assert (await keys.ask("GET", "/models", text)).status_code == 401
    assert code(await admin("DELETE", f"/admin/keys/{key_id}")) == "key_not_found"
    assert code(await admin("POST", "/admin/keys", json={"name": "infer"})) == "key_exists"


@pytest.mark.parametrize(
    "body",
    [{"name": ""}, {"name": "x", "scopes": []}, {"name": "x", "hash": "0" * 64}, {"name": "x", "streams": 0}],
)
async def test_a_wrong_key_body_is_refused_by_field(keys: Keys, body: dict[str, Any]) -> None:
    response = await keys.ask("POST", "/admin/keys", keys.admin, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] in ("name", "scopes", "hash", "streams")


async def test_requests_in_a_minute_are_limited_before_any_byte(rig: Rig) -> None:
    who = key(rig, requests_per_minute=2)
    first = await ask(rig, who)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-reset-requests"].endswith("s")
    assert (await ask(rig, who)).status_code == 200
    for path in ("/generate", "/generate/stream", "/predictions/translation"):
        refused = await rig.client.post(path, json={"prompt": "x"}, headers=who)
        assert (refused.status_code, code(refused)) == (429, "rate_limit_exceeded")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert (await ask(rig, key(rig, "other"))).status_code == 200
    assert (await rig.client.get("/models", headers=who)).status_code == 200


async def test_tokens_in_a_minute_are_counted_when_a_generation_ends(rig: Rig) -> None:
    who = key(rig, tokens_per_minute=10)  # an answer of the fake worker is 8
    for left in ("2", "0"):
        assert (await ask(rig, who)).status_code == 200
        models = await rig.client.get("/models", headers=who)
        assert models.headers["x-ratelimit-remaining-tokens"] == left
    assert code(await ask(rig, who)) == "rate_limit_exceeded"


async def test_generations_at_a_time_are_limited(rig: Rig) -> None:
    held, who = Held(rig), key(rig, streams=1)
    running = asyncio.create_task(ask(rig, who))
    await rig.until(lambda: rig.lifecycle.view("conversational_chat").in_flight == 1)
    assert code(await ask(rig, who)) == "rate_limit_exceeded"
    held.may_end.set()
    assert (await running).status_code == 200
    assert (await ask(rig, who)).status_code == 200


def test_a_minute_moves_with_the_clock() -> None:
    now = 0.0
    quotas = Quotas(lambda: now)
    caller = Caller("key_1", rate_limit=RateLimit(requests_per_minute=2, tokens_per_minute=100))

    def generate(tokens: int) -> None:
        with quotas.admitted(caller) as meter:
            meter.ended(tokens)

    generate(10)
    now = 30.0
    generate(10)
    with pytest.raises(RequestError) as refused:
        generate(1)
    assert refused.value.retry_after_s == 30
    now = 60.0
    generate(200)
    assert quotas.headers(caller)["x-ratelimit-remaining-tokens"] == "0"
    now = 90.0
    with pytest.raises(RequestError) as refused:
        generate(1)
    assert refused.value.retry_after_s == 30
    assert quotas.headers(caller)["x-ratelimit-reset-tokens"] == "30.000s"
    now = 120.0
    generate(1)


def test_who_leaves_early_is_charged_what_was_sent() -> None:
    quotas, caller = Quotas(), Caller("key_1", rate_limit=RateLimit(tokens_per_minute=5))
    with quotas.admitted(caller) as meter:
        meter.relayed(b"{}\n{}\n")
    assert quotas.headers(caller)["x-ratelimit-remaining-tokens"] == "3"


async def test_a_key_sees_and_uses_its_categories_only(rig: Rig) -> None:
    who = key(rig, categories=["translation"])
    rows = (await rig.client.get("/models", headers=who)).json()["models"]
    assert [row["category"] for row in rows] == ["translation"]
    for request in (
        ask(rig, who),
        rig.client.get("/models/legal_analysis", headers=who),
        rig.client.post("/predictions/legal_analysis", json={"prompt": "x"}, headers=who),
        rig.client.post("/check", json={"category": "legal_analysis", "text": "x"}, headers=who),
    ):
        refused = await request
        unknown = await rig.client.get("/models/no_such_category", headers=who)
        assert refused.status_code == unknown.status_code == 404
        assert refused.json()["error"]["code"] == unknown.json()["error"]["code"] == "model_not_found"
    assert (await ask(rig, who, "Translation")).status_code == 200
    without = await rig.client.post("/generate", json={"prompt": "x"}, headers=who)
    assert without.json()["category"] == "translation"
    unknown = await rig.client.get("/models/legal_analysys", headers=who)
    assert "legal_analysis" not in unknown.text


async def test_a_key_for_one_category_learns_nothing_of_the_others(rig: Rig) -> None:
    who, owner = key(rig, categories=["translation"]), bearer(OWNER_TOKEN)
    for category in ("conversational_chat", "translation"):
        assert (await ask(rig, owner, category)).status_code == 200
    for path in ("/stats", "/metrics", "/health", "/models", "/openapi.json", "/v1/models"):
        told = await rig.client.get(path, headers=who)
        assert told.status_code == 200
        for other in ("conversational_chat", "legal_analysis"):
            # The document describes examples and engines to every reader.
            assert other not in told.text or path == "/openapi.json", path
        assert "translation" in told.text
    stats = (await rig.client.get("/stats", headers=who)).json()
    assert list(stats["categories"]) == ["translation"]
    assert (stats["memory"], stats["swaps"]) == (None, None)
    assert (await rig.client.get("/stats", headers=owner)).json()["memory"]["budget"] > 0


async def test_a_key_for_a_row_of_a_shared_set_learns_nothing_of_the_rows_beside(rig: Rig) -> None:
    """The set is named after its first row, which belongs to another key."""
    who, owner = key(rig, categories=["legal_analysis"]), bearer(OWNER_TOKEN)
    held = Held(rig)
    held.may_end.set()
    assert (await ask(rig, who, "legal_analysis")).status_code == 200
    held.may_end.clear()
    beside = asyncio.create_task(ask(rig, owner))
    await rig.until(lambda: rig.lifecycle.view("legal_analysis").in_flight == 1)
    (seen,) = (await rig.client.get("/models", headers=who)).json()["models"]
    assert (seen["in_flight"], seen["workers"][0]["in_flight"], seen["last_used"]) == (0, 0, None)
    mine = asyncio.create_task(ask(rig, who, "legal_analysis"))
    await rig.until(lambda: rig.lifecycle.view("legal_analysis").in_flight == 2)
    assert (await rig.client.get("/models/legal_analysis", headers=who)).json()["in_flight"] == 1
    assert (await rig.client.get("/models/legal_analysis", headers=owner)).json()["in_flight"] == 2
    held.may_end.set()
    own = (await mine).json()
    await beside
    trace = await rig.client.get(f"/requests/{own['id']}", headers=who)
    assert trace.json()["set"] == "legal_analysis"
    assert "conversational_chat" not in trace.text


async def test_what_was_unloaded_for_a_request_is_named_to_who_may_know_it(make_rig: MakeRig) -> None:
    async with make_rig(settings=TABLE, budget=5 * GB) as rig:
        rig.torchserve.memory = 4 * GB
        who, owner = key(rig, categories=["b"]), bearer(OWNER_TOKEN)
        assert (await ask(rig, owner, "a")).status_code == 200
        own = (await ask(rig, who, "b")).json()
        told = [(await rig.client.get(f"/requests/{own['id']}", headers=h)).json() for h in (who, owner)]
        assert [trace["loads"][0]["evicted"][0]["set"] for trace in told] == [None, "a"]


@pytest.mark.parametrize("rules", [{"may_load": False}, {}])
async def test_a_refusal_names_the_callers_own_row_of_a_shared_set(rig: Rig, rules: dict[str, Any]) -> None:
    who = key(rig, categories=["legal_analysis"], **rules)
    rig.builder.may_build.clear()
    refused = await ask(rig, who, "legal_analysis", max_wait_s=0.1)
    assert refused.status_code == 503
    assert "legal_analysis" in refused.text
    assert "conversational_chat" not in refused.text
    rig.builder.may_build.set()


async def test_a_restricted_key_keeps_to_its_categorys_engine(rig: Rig) -> None:
    who = key(rig, categories=["translation"])
    for path in ("/generate", "/predictions/translation"):
        body = {"prompt": "x", "category": "translation", "engine": "legal_analysis"}
        refused = await rig.client.post(path, json=body, headers=who)
        assert (refused.status_code, code(refused)) == (403, "engine_not_allowed")
        assert (await rig.client.post(path, json=body, headers=bearer(OWNER_TOKEN))).status_code == 200


async def test_a_key_that_may_not_load_uses_what_is_loaded(rig: Rig) -> None:
    who = key(rig, may_load=False)
    refused = await ask(rig, who)
    assert (refused.status_code, code(refused)) == (503, "load_not_allowed")
    assert not rig.torchserve.registered
    assert (await ask(rig, bearer(OWNER_TOKEN))).status_code == 200
    assert (await ask(rig, who)).status_code == 200


TABLE = """
|Category/Area|Best Open Source Model|VRAM/RAM Requirements|Technical Model Name|Stay Loaded|Precision|
|-|-|-|-|-|-|
| A | a | ~4GB | `models/a.gguf` | false | Q4_1 |
| B | b | ~4GB | `models/b.gguf` | false | Q4_1 |
"""


async def test_a_key_that_may_not_evict_loads_where_there_is_room(make_rig: MakeRig) -> None:
    async with make_rig(settings=TABLE, budget=5 * GB) as rig:
        rig.torchserve.memory = 4 * GB
        who = key(rig, may_evict=False)
        assert (await ask(rig, who, "a")).status_code == 200
        refused = await ask(rig, who, "b")
        assert (refused.status_code, code(refused)) == (503, "eviction_not_allowed")
        assert not rig.torchserve.unregistered
        assert (await ask(rig, bearer(OWNER_TOKEN), "b")).status_code == 200
        assert rig.lifecycle.view("a").state is State.UNAVAILABLE


async def test_a_load_that_may_not_evict_does_once_another_asks(make_rig: MakeRig) -> None:
    """There was free memory when the load was allowed, and none when its archive was built."""
    async with make_rig(settings=TABLE, budget=10 * GB) as rig:
        who = key(rig, may_evict=False)
        rig.torchserve.memory = 4 * GB
        assert (await ask(rig, who, "a")).status_code == 200
        rig.builder.may_build.clear()
        meek = asyncio.create_task(ask(rig, who, "b"))
        await rig.until(lambda: rig.lifecycle.view("b").phase == "convert")
        rig.memory.left = {"cpu": 1 * GB}
        rig.builder.may_build.set()
        await rig.until(lambda: rig.lifecycle.view("b").position == 1)
        assert rig.lifecycle.view("a").state is State.READY
        other = asyncio.create_task(ask(rig, bearer(OWNER_TOKEN), "b"))
        await rig.until(lambda: rig.lifecycle.view("a").state is State.UNAVAILABLE)
        rig.memory.left = {}
        await rig.lifecycle.reconcile()
        assert {(await meek).status_code, (await other).status_code} == {200}
