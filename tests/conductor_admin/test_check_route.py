"""`POST /check`: its limits, and its answer when no check can run."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from conductor_admin.api.native.generate import MAX_TEXT_CHARS
from handlers.sandbox.fair_queue import FairQueue, QueueBounds
from handlers.wire import MAX_PROMPT_CHARS, MOST_OPTIONS
from tests.conductor_admin.gateway_rig import MakeRig, Rig
from tests.conductor_admin.test_keys_rules import code, key

CATEGORY = "translation"
STANDS_STILL_S = 0.05
"""No request may hold the event loop for longer."""


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("text", {"text": "x" * (MAX_TEXT_CHARS + 1)}),
        ("prompt", {"text": "x", "prompt": "x" * (MAX_PROMPT_CHARS + 1)}),
        ("options", {"text": "x", "options": {str(number): 1 for number in range(MOST_OPTIONS + 1)}}),
        ("category", {"text": "x", "category": "x" * 201}),
    ],
)
async def test_what_is_too_long_is_a_400_that_names_the_field(
    rig: Rig, field: str, body: dict[str, Any]
) -> None:
    reply = await rig.client.post("/check", json={"category": CATEGORY, **body})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == field


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"prompt": "x"}),
        ("/predictions/translation", {"prompt": "x"}),
        ("/v1/chat/completions", {"model": CATEGORY, "messages": [{"role": "user", "content": "x"}]}),
    ],
)
async def test_no_route_takes_more_options_than_a_check(rig: Rig, path: str, body: dict[str, Any]) -> None:
    """Half a million options fit into one body, and each is copied into a worker's request."""
    options = {str(number): 1 for number in range(MOST_OPTIONS + 1)}
    reply = await rig.client.post(path, json={**body, "options": options})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "options")


async def test_a_full_queue_is_said_with_a_time_to_retry(make_rig: MakeRig) -> None:
    async with make_rig() as rig:
        body = {"category": CATEGORY, "text": "x"}
        checker = rig.gateway.checker
        for bounds, status in (
            (QueueBounds(running=1, own_waiting=0), 429),
            (QueueBounds(running=1, waiting=0), 503),
        ):
            checker._pool._queue = FairQueue(bounds)
            async with checker._pool._queue.place("somebody"):
                reply = await rig.client.post("/check", json=body, timeout=60)
            assert reply.status_code == status
            assert int(reply.headers["retry-after"]) >= 1
        assert (await rig.client.post("/check", json=body, timeout=60)).status_code == 200


async def test_checks_count_in_the_minute_of_their_key(rig: Rig) -> None:
    body, who = {"category": "conversational_chat", "text": "x"}, key(rig, requests_per_minute=2)
    replies = [await rig.client.post("/check", json=body, headers=who) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert code(replies[-1]) == "rate_limit_exceeded"


async def test_a_check_takes_one_of_the_streams_of_its_key(rig: Rig) -> None:
    body, who = {"category": CATEGORY, "text": "x"}, key(rig, streams=1)
    queue = rig.gateway.checker._pool._queue = FairQueue(QueueBounds(running=1))
    async with queue.place("somebody"):
        first = asyncio.create_task(rig.client.post("/check", json=body, headers=who, timeout=60))
        await rig.until(lambda: bool(queue._waiting))
        second = await rig.client.post("/check", json=body, headers=who)
    assert (second.status_code, code(second)) == (429, "rate_limit_exceeded")
    assert (await first).status_code == 200


@pytest.mark.parametrize("text", ["```" + "\n" * 20_000, "translate to" + " " * 60_000, '"' * 500_000])
async def test_no_text_holds_the_event_loop(rig: Rig, text: str) -> None:
    body = {"category": CATEGORY, "prompt": text, "text": text, "options": {"inputs": ["a"], "target": "fr"}}
    await rig.client.post("/check", json={"category": CATEGORY, "text": "x"}, timeout=60)
    standing = asyncio.create_task(longest_step())
    reply = await rig.client.post("/check", json=body, timeout=60)
    standing.cancel()
    assert reply.status_code == 200
    assert await standing < STANDS_STILL_S


async def longest_step() -> float:
    """Measure the longest processor time of the loop's thread between two checks, until cancelled."""
    longest, before = 0.0, time.thread_time()
    try:
        while True:
            await asyncio.sleep(0)
            longest, before = max(longest, time.thread_time() - before), time.thread_time()
    except asyncio.CancelledError:
        return longest
