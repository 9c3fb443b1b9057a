"""`/predictions` of the real TorchServe: calls of one batch neither delay nor harm each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.contract.stub_archive import write_archive
from tests.handlers.scripted_source import script
from tests.signals import Signal
from tests.torchserve_process import TorchServe, torchserve

LIMIT_S = 20
BATCH = 8
# A batch is closed by its eighth call, never by this delay.
DELAY_MS = 10_000


@pytest.fixture(scope="module")
def server() -> Iterator[TorchServe]:
    with torchserve() as server:
        for name, batch in (("batched", BATCH), ("single", 1)):
            archive = write_archive(server.folder / "archives", name, batch=batch, delay_ms=DELAY_MS)
            answer = server.register(archive)
            assert answer.status_code == 200, answer.text + server.log.read_text()
        yield server


@pytest.fixture
async def client(server: TorchServe) -> AsyncIterator[httpx2.AsyncClient]:
    async with server.async_client("inference") as client, asyncio.timeout(LIMIT_S):
        yield client


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Signal]:
    signal = Signal(tmp_path / "release")
    yield signal
    signal.close()


async def predict(
    client: httpx2.AsyncClient, model: str, *steps: list[Any], **fields: Any
) -> httpx2.Response:
    return await client.post(f"/predictions/{model}", json={"prompt": script(*steps), **fields})


def start(
    client: httpx2.AsyncClient, count: int, *steps: list[Any], **fields: Any
) -> list[asyncio.Task[httpx2.Response]]:
    calls = range(count)
    return [asyncio.create_task(predict(client, "batched", *steps, **fields)) for _ in calls]


async def texts(calls: list[asyncio.Task[httpx2.Response]]) -> list[str]:
    answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json()["text"] for answer in answers]


async def test_a_call_is_answered_as_the_gateway_does(client: httpx2.AsyncClient) -> None:
    answer = await predict(client, "single", ["say", "Guten "], ["say", "Tag"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    state = answer.json()
    assert state.pop("id") == answer.headers["x-request-id"]
    assert state.pop("timings").keys() == {"first_token_s", "total_s"}
    assert state == {
        "category": "single",
        "model": "Scripted",
        "text": "Guten Tag",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
        "findings": {},
    }


async def test_a_streamed_call_gets_its_first_record_while_the_rest_is_being_made(
    client: httpx2.AsyncClient, release: Signal
) -> None:
    steps = ["say", "first"], ["wait", str(release.path)], ["say", " last"]
    body = {"prompt": script(*steps), "stream": True}
    async with client.stream("POST", "/predictions/single", json=body) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = answer.aiter_lines()
        assert orjson.loads(await anext(lines)) == {"delta": "first"}
        release.send()
        rest = [orjson.loads(line) async for line in lines]
    assert rest[0] == {"delta": " last"}
    assert rest[1]["done"]["text"] == "first last"
    assert (await predict(client, "single", ["say", "next"])).json()["text"] == "next"


async def test_seven_short_calls_return_before_the_long_one_of_their_batch(
    client: httpx2.AsyncClient, release: Signal
) -> None:
    (long,) = start(client, 1, ["meet", BATCH], ["wait", str(release.path)], ["say", "long"])
    short = start(client, BATCH - 1, ["meet", BATCH], ["say", "short"])
    assert await texts(short) == ["short"] * (BATCH - 1)
    assert not long.done()
    release.send()
    assert await texts([long]) == ["long"]


async def test_streams_and_whole_answers_share_a_batch(client: httpx2.AsyncClient, release: Signal) -> None:
    held = start(client, 2, ["say", "a"], ["meet", BATCH], ["wait", str(release.path)], stream=True)
    streams = start(client, 3, ["say", "a"], ["meet", BATCH], ["say", "b"], stream=True)
    whole = start(client, 3, ["meet", BATCH], ["say", "c"])
    assert await texts(whole) == ["c"] * 3
    for stream in await asyncio.gather(*streams):
        *deltas, last = [orjson.loads(line) for line in stream.text.splitlines()]
        assert ("".join(d["delta"] for d in deltas), last["done"]["text"]) == ("ab", "ab")
    for _ in held:
        assert not all(call.done() for call in held)
        release.send()
    for stream in await asyncio.gather(*held):
        assert orjson.loads(stream.text.splitlines()[-1])["done"]["text"] == "a"


@pytest.mark.parametrize(
    ("bad", "status", "code"),
    [
        ({"prompt": "x", "temperature": "hot"}, 400, "invalid_value"),
        ({"prompt": script(["meet", BATCH], ["refuse"])}, 400, "scripted"),
        ({"prompt": script(["meet", BATCH], ["break"])}, 500, "internal_error"),
    ],
)
async def test_a_bad_call_gets_its_own_status_at_once_and_harms_no_other(
    client: httpx2.AsyncClient, release: Signal, bad: dict[str, Any], status: int, code: str
) -> None:
    there = BATCH if "meet" in bad["prompt"] else BATCH - 1
    (long,) = start(client, 1, ["meet", there], ["wait", str(release.path)], ["say", "long"])
    short = start(client, BATCH - 2, ["meet", there], ["say", "short"])
    refused = await client.post("/predictions/batched", json=bad)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert await texts(short) == ["short"] * (BATCH - 2)
    assert not long.done()
    release.send()
    assert await texts([long]) == ["long"]


async def test_kept_connections_carry_no_stray_answer_into_the_next_batch(
    server: TorchServe, client: httpx2.AsyncClient
) -> None:
    before = server.worker_pids("batched")
    for word in ("one", "two", "three"):
        calls = start(client, BATCH - 1, ["meet", BATCH - 1], ["say", word])
        refused = await client.post("/predictions/batched", json={"prompt": "x", "colour": 1})
        assert refused.json()["error"]["param"] == "colour"
        assert await texts(calls) == [word] * (BATCH - 1)
    assert server.worker_pids("batched") == before


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"session": True}, "session"),
        ({"session_id": "s"}, "session_id"),
        ({"persona": "pirate"}, "persona"),
        ({"category": "other"}, "category"),
        ({"colour": 1}, "colour"),
        ({"messages": [{"role": "user", "content": "x"}]}, None),
    ],
)
async def test_what_only_the_gateway_offers_is_refused_by_name(
    client: httpx2.AsyncClient, fields: dict[str, Any], param: str | None
) -> None:
    answer = await predict(client, "single", ["say", "x"], **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "content", [b"{", b"[1]", b'{"prompt": "\\ud800"}', b'{"prompt": "x", "top_p": NaN}']
)
async def test_a_body_that_is_no_strict_json_object_is_refused(
    client: httpx2.AsyncClient, content: bytes
) -> None:
    headers = {"content-type": "application/json"}
    answer = await client.post("/predictions/single", content=content, headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_a_form_is_refused_with_the_content_type_it_needs(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/predictions/single", data={"prompt": "x"})
    assert answer.status_code == 400
    assert "application/json" in answer.json()["error"]["message"]
