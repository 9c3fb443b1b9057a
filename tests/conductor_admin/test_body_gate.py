"""Bodies of all requests together: limits of routes, pace, shared memory, and a loop that goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import orjson
import pytest

from conductor_admin.auth.access import ROUTE_SCOPES
from conductor_admin.http import body_budget, body_gate
from conductor_admin.http.body_budget import LARGE_OF_A_KEY, SMALL_BYTES, BodyBudget
from conductor_admin.http.body_limits import LIMITS, OTHER_BYTES, TEXT_BYTES, limit_of
from handlers.wire import MAX_PROMPT_CHARS, RequestError
from tests.conductor_admin.gateway_rig import Rig
from tests.conductor_admin.key_rig import Keys, bearer
from tests.conductor_admin.raw_http import connection, statuses, talk
from tests.loop_steps import take_held

MB = 2**20
JSON = {"content-type": "application/json"}


def test_every_limit_is_that_of_a_route_and_the_rest_have_two_megabytes() -> None:
    assert set(LIMITS) <= set(ROUTE_SCOPES)
    assert OTHER_BYTES <= 2 * MB
    assert all(limit <= TEXT_BYTES for limit in LIMITS.values())
    assert not any(template.startswith("/admin") or template.startswith("/sessions") for template in LIMITS)
    assert limit_of("/admin/keys") == limit_of("no such route") == OTHER_BYTES


def test_the_longest_text_fits_however_it_is_written() -> None:
    for text in ("\x01", "é", "漢"):
        assert len(json.dumps({"prompt": text * MAX_PROMPT_CHARS})) <= TEXT_BYTES


@pytest.mark.parametrize("path", ["/admin/keys", "/admin/plan", "/admin/reload", "/nothing"])
async def test_another_route_takes_two_megabytes_told_or_not(rig: Rig, path: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * MB

    told = await rig.client.post(path, content=b" " * (OTHER_BYTES + 1), headers=JSON)
    assert told.status_code == 413
    if path in ("/admin/keys", "/admin/plan"):
        assert (await rig.client.post(path, content=pieces(), headers=JSON)).status_code == 413


async def test_a_body_that_drips_is_cut(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_gate, "PACE_S", 0.3)
    async with connection(rig.url) as (reader, writer):
        writer.write(b"POST /check HTTP/1.1\r\nHost: 127.0.0.1\r\ncontent-length: 100000\r\n\r\n")
        answering = asyncio.ensure_future(reader.readuntil(b"}}"))
        with contextlib.suppress(ConnectionError):
            while not answering.done():
                writer.write(b" ")
                await asyncio.wait({answering}, timeout=0.02)
        answer = answering.result()
    assert statuses(answer) == [408]
    assert b"request_timeout" in answer


async def test_a_body_that_keeps_the_pace_is_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_gate, "PACE_S", 5.0)
    monkeypatch.setattr(body_gate, "PACE_BYTES", 10)

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"text": "'
        for _ in range(50):
            yield b"x" * 10
            await asyncio.sleep(0)
        yield b'"}'

    assert (await rig.client.post("/check", content=pieces(), headers=JSON)).status_code == 200


def held(budget: BodyBudget, stack: contextlib.ExitStack, key: str | None, size: int) -> None:
    stack.enter_context(budget.share(key)).take(size)


def refusal(budget: BodyBudget, key: str | None, size: int) -> RequestError:
    with pytest.raises(RequestError) as caught, budget.share(key) as share:
        share.take(size)
    return caught.value


def test_large_bodies_leave_the_reserve_to_small_ones() -> None:
    budget = BodyBudget()
    with contextlib.ExitStack() as stack:
        for _ in range(7):
            held(budget, stack, None, 32 * MB)
        error = refusal(budget, None, MB)
        assert (error.status, error.code) == (503, "bodies_too_large_together")
        assert error.retry_after_s
        for _ in range(body_budget.RESERVE_BYTES // SMALL_BYTES):
            held(budget, stack, None, SMALL_BYTES)
        assert refusal(budget, None, 1).status == 503
    assert budget.used == 0


def test_a_body_that_grows_large_is_counted_as_large() -> None:
    budget = BodyBudget()
    with contextlib.ExitStack() as stack:
        held(budget, stack, None, body_budget.BUDGET_BYTES - body_budget.RESERVE_BYTES - SMALL_BYTES)
        share = stack.enter_context(budget.share(None))
        share.take(SMALL_BYTES)
        with pytest.raises(RequestError):
            share.take(1)


def test_one_key_has_a_number_of_large_bodies_and_another_key_its_own() -> None:
    budget = BodyBudget()
    with contextlib.ExitStack() as stack:
        for _ in range(LARGE_OF_A_KEY):
            held(budget, stack, "a", MB)
        error = refusal(budget, "a", MB)
        assert (error.status, error.type) == (429, "rate_limit_error")
        held(budget, stack, "a", SMALL_BYTES)
        held(budget, stack, "b", MB)
    assert budget.used == 0
    for _ in range(2 * LARGE_OF_A_KEY):
        with budget.share("a") as share:
            share.take(MB)


def test_one_keys_large_bodies_leave_memory_to_those_of_another() -> None:
    budget, size = BodyBudget(), 16 * MB
    with contextlib.ExitStack() as stack:
        for _ in range(7):  # half of 224 MB
            held(budget, stack, "a", size)
        error = refusal(budget, "a", size)
        assert (error.status, error.code, error.retry_after_s) == (429, "share_exceeded", 1.0)
        held(budget, stack, "a", SMALL_BYTES)
        for _ in range(4):  # a third of them, since two keys have some
            held(budget, stack, "b", size)
        assert refusal(budget, "b", size).code == "share_exceeded"
        held(budget, stack, "c", size)
    assert budget.used == 0
    with budget.share("b") as share:
        share.take(100 * MB)


async def test_bodies_in_progress_are_refused_together_and_a_small_one_gets_through(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_budget, "BUDGET_BYTES", 3 * MB)
    monkeypatch.setattr(body_budget, "RESERVE_BYTES", MB)
    head = "POST /check HTTP/1.1\r\nHost: 127.0.0.1\r\ncontent-length: 4000000\r\n\r\n"
    async with contextlib.AsyncExitStack() as stack:
        answers = []
        for _ in range(4):
            reader, writer = await stack.enter_async_context(connection(rig.url))
            writer.write(head.encode() + b" " * (MB - 100))
            await writer.drain()
            answers.append(asyncio.ensure_future(reader.readuntil(b"}}")))
        done, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        assert done
        for answer in done:
            assert statuses(answer.result()) == [503]
            assert b"retry-after: 1" in answer.result()
        assert (await rig.client.post("/check", json={"text": "x"})).status_code == 200
        for answer in waiting:
            answer.cancel()
        await asyncio.wait(answers)


async def test_a_key_is_told_of_too_many_large_bodies(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_budget, "LARGE_OF_A_KEY", 0)
    content = orjson.dumps({"text": "x" * SMALL_BYTES})
    mine = await keys.rig.client.post("/check", content=content, headers={**bearer(keys.infer), **JSON})
    assert mine.status_code == 429
    small = {"text": "x"}
    assert (await keys.rig.client.post("/check", json=small, headers=bearer(keys.infer))).status_code == 200


async def test_who_has_no_key_holds_nothing(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(BodyBudget, "take", lambda self, size, kept: taken.append(size))
    head = "POST /generate HTTP/1.1\r\nHost: 127.0.0.1\r\nconnection: close\r\ncontent-length: 40000\r\n\r\n"
    assert statuses(await talk(keys.rig.url, head, " " * 40_000)) == [401]
    assert not taken


LARGE: dict[str, tuple[str, bytes]] = {
    "lists": ("/generate", b'{"prompt":"a","options":{"x":[' + b"[]," * 8_000_000 + b"1]}}"),
    "lists within": ("/generate", b'{"prompt":"a","options":{"x":[' + b"[]," * 30_000 + b"1]}}"),
    "numbers within": ("/v1/completions", orjson.dumps({"model": "x", "prompt": [[5] * 4096] * 128})),
    "escaped text": ("/check", json.dumps({"text": "é" * 4_000_000}).encode()),
    "plain text": ("/check", orjson.dumps({"text": "a word " * 570_000})),
}


@pytest.mark.parametrize("kind", LARGE)
async def test_a_large_body_is_parsed_off_the_loop(rig: Rig, kind: str) -> None:
    """Each step of the loop is measured, as in every test; the parse alone would take longer than one may."""
    path, raw = LARGE[kind]
    response = await rig.client.post(path, content=raw, headers=JSON)
    assert response.status_code in (200, 400, 404)
    assert not take_held(besides="test_a_large_body_is_parsed_off_the_loop")
