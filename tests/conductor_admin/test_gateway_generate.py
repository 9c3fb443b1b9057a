"""`/generate` and `/generate/stream` over real sockets and the fake TorchServe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest

from conductor_admin.workers.client import Patience
from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import GB, MakeRig, Rig


def data_of(text: str) -> list[Any]:
    """The data of each event; `[DONE]` as itself."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else orjson.loads(line) for line in lines]


async def test_an_answer_carries_every_field(rig: Rig) -> None:
    response = await rig.client.post(
        "/generate", json={"prompt": "count"}, headers={"x-request-id": "mine-1"}
    )
    assert response.status_code == 200
    assert response.headers["x-request-id"] == "mine-1"
    assert response.json() == {
        "id": "mine-1",
        "category": "conversational_chat",
        "model": "models/small.gguf",
        "text": "one two three",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
        "timings": {"first_token_s": 0.01, "total_s": 0.02},
        "findings": {},
        "session_id": None,
    }


async def test_a_stream_is_deltas_one_record_without_text_and_done(rig: Rig) -> None:
    response = await rig.client.post("/generate/stream", json={"prompt": "count"})
    *deltas, record, end = data_of(response.text)
    assert deltas == [{"delta": "one"}, {"delta": " two"}, {"delta": " three"}]
    assert end == "[DONE]"
    whole = (await rig.client.post("/generate", json={"prompt": "count"})).json()
    assert record.keys() == whole.keys() - {"text"}
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["cache-control"] == "no-store"


async def test_stream_true_streams_from_generate(rig: Rig) -> None:
    response = await rig.client.post("/generate", json={"prompt": "count", "stream": True})
    assert data_of(response.text)[-1] == "[DONE]"


async def test_the_worker_gets_persona_parameters_and_request_values(rig: Rig) -> None:
    await rig.client.post("/generate", json={"prompt": "x", "temperature": 0.5})
    await rig.client.post("/generate", json={"prompt": "x", "category": "Translation", "max_tokens": 9})
    await rig.client.post("/generate", json={"prompt": "x", "category": "translation", "persona": "pirate"})
    (chat,) = rig.torchserve.workers("conversational_chat")[0].requests
    plain, pirate = rig.torchserve.workers("translation")[0].requests
    assert (chat["system"], chat["sampling"]) == ("You are kind.", {"temperature": 0.5})
    assert chat["engine"] == "conversational_chat"
    assert "system" not in plain
    assert plain["sampling"] == {"temperature": 0.0, "max_tokens": 9}
    assert pirate["system"] == "You are a pirate."


async def test_rows_with_the_same_weights_share_a_set(rig: Rig) -> None:
    for category in ("conversational_chat", "legal_analysis"):
        assert (
            await rig.client.post("/generate", json={"prompt": "x", "category": category})
        ).status_code == 200
    assert len(rig.torchserve.registered) == 1


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"category": "conversational_chta"}, 404, "model_not_found", "category"),
        ({"category": "../../etc"}, 404, "model_not_found", "category"),
        ({"persona": "nobody"}, 404, "persona_not_found", "persona"),
        ({"session": "old"}, 400, "invalid_value", "session"),
        ({"session": "new", "session_id": "s"}, 400, "invalid_value", "session"),
        ({"session_id": "s"}, 404, "session_not_found", "session_id"),
        ({"engine": "nothing"}, 400, "unknown_engine", "engine"),
        ({"colour": "red"}, 400, "unknown_field", "colour"),
    ],
)
async def test_what_cannot_be_served_is_refused_before_a_load(
    rig: Rig, body: dict[str, Any], status: int, code: str, param: str
) -> None:
    response = await rig.client.post("/generate/stream", json={"prompt": "x", **body})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    assert not rig.torchserve.registered


async def test_an_unknown_category_names_close_ones(rig: Rig) -> None:
    response = await rig.client.post("/generate", json={"prompt": "x", "category": "translaton"})
    assert "did you mean translation" in response.json()["error"]["message"]


async def test_the_first_piece_arrives_while_the_model_still_works(rig: Rig) -> None:
    go_on = asyncio.Event()

    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": "first"}
        await go_on.wait()
        yield done("first")

    rig.torchserve.script = script
    async with rig.client.stream("POST", "/generate/stream", json={"prompt": "x"}) as response:
        lines = response.aiter_lines()
        async with asyncio.timeout(5):
            first = await anext(line async for line in lines if line.startswith("data"))
            assert first == 'data: {"delta":"first"}'
            go_on.set()
            assert "data: [DONE]" in [line async for line in lines]


async def test_attempts_and_line_ends_in_deltas_pass_unharmed(rig: Rig) -> None:
    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": 'a\nb\r\n\u2028{"done"'}
        yield {"attempt": 2}
        yield {"delta": "é😀"}
        yield done("é😀")

    rig.torchserve.script = script
    text = (await rig.client.post("/generate/stream", json={"prompt": "x"})).content.decode()
    events = [orjson.loads(e[6:]) for e in text.split("\n\n") if e.startswith("data: {")]
    assert events[:3] == [{"delta": 'a\nb\r\n\u2028{"done"'}, {"attempt": 2}, {"delta": "é😀"}]


async def wait_for_ever(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield {"delta": "begun"}
    await asyncio.Event().wait()


async def silent(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    await asyncio.Event().wait()
    yield {}


async def test_a_client_that_leaves_a_stream_stops_the_worker(rig: Rig) -> None:
    rig.torchserve.script = wait_for_ever
    async with rig.client.stream("POST", "/generate/stream", json={"prompt": "x"}) as response:
        await anext(response.aiter_lines())
    async with asyncio.timeout(5):
        await rig.torchserve.workers("conversational_chat")[0].left.wait()
    await rig.until(lambda: rig.lifecycle.view("conversational_chat").in_flight == 0)


@pytest.mark.parametrize("path", ["/generate", "/generate/stream", "/predictions/conversational_chat"])
async def test_a_client_that_leaves_before_the_first_token_stops_the_worker(rig: Rig, path: str) -> None:
    rig.torchserve.script = silent
    leaving = asyncio.create_task(rig.client.post(path, json={"prompt": "x"}))
    await rig.until(lambda: rig.lifecycle.view("conversational_chat").in_flight == 1)
    (worker,) = rig.torchserve.workers("conversational_chat")
    await rig.until(lambda: bool(worker.requests))
    leaving.cancel()
    async with asyncio.timeout(5):
        await worker.left.wait()
    await rig.until(lambda: rig.lifecycle.view("conversational_chat").in_flight == 0)


async def test_a_worker_killed_in_mid_stream_gives_an_error_record_and_no_done(rig: Rig) -> None:
    rig.torchserve.script = wait_for_ever
    async with rig.client.stream("POST", "/generate/stream", json={"prompt": "x"}) as response:
        lines = response.aiter_lines()
        await anext(lines)
        rig.torchserve.may_load.clear()
        await rig.torchserve.workers("conversational_chat")[0].kill()
        async with asyncio.timeout(5):
            rest = [line async for line in lines if line]
    assert orjson.loads(rest[-1][6:])["error"]["code"] == "worker_died"
    assert "data: [DONE]" not in rest
    view = rig.lifecycle.view("conversational_chat")
    assert (view.state, view.phase) == ("LOADING", "restart")


async def test_the_set_serves_again_after_its_worker_was_killed(rig: Rig) -> None:
    assert (await rig.client.post("/generate", json={"prompt": "x"})).status_code == 200
    await rig.torchserve.workers("conversational_chat")[0].kill()
    answer = await rig.client.post("/generate", json={"prompt": "x"})
    assert answer.json()["text"] == "one two three"
    assert rig.torchserve.registered == ["conversational_chat-0123456789ab.mar"]


async def test_an_error_before_the_first_piece_is_a_plain_status(rig: Rig) -> None:
    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        fault = {"message": "too long", "type": "invalid_request_error", "param": "prompt"}
        yield {"error": {**fault, "code": "context_length_exceeded", "status": 400, "retry_after_s": None}}

    rig.torchserve.script = script
    for path in ("/generate", "/generate/stream"):
        response = await rig.client.post(path, json={"prompt": "x"})
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "context_length_exceeded"
    figures = (await rig.client.get("/stats")).json()["categories"]["conversational_chat"]
    assert (figures["errors"], figures["generations"]) == (0, 0)


async def test_timeouts_tell_which_token_was_late_and_cancel(make_rig: MakeRig) -> None:
    async with make_rig(patience=Patience(0.1, 0.1)) as rig:
        rig.torchserve.script = silent
        first = await rig.client.post("/generate", json={"prompt": "x"})
        assert (first.status_code, first.json()["error"]["code"]) == (504, "first_token_timeout")
        (worker,) = rig.torchserve.workers("conversational_chat")
        await rig.until(worker.left.is_set)
        worker.script = wait_for_ever
        second = await rig.client.post("/generate/stream", json={"prompt": "x"})
        assert data_of(second.text)[-1]["error"]["code"] == "token_timeout"


async def test_stats_count_what_happened(rig: Rig) -> None:
    await rig.client.post("/generate", json={"prompt": "x"})
    stats = (await rig.client.get("/stats")).json()
    use = {"budget": 10 * GB, "used": GB, "free": 9 * GB}
    assert stats["memory"] == {**use, "devices": {"cpu": use}}
    assert stats["swaps"] == 0
    chat = stats["categories"]["conversational_chat"]
    assert (chat["generations"], chat["prompt_tokens"], chat["completion_tokens"]) == (1, 5, 3)
    assert (chat["errors"], chat["error_rate"], chat["queued"]) == (0, 0.0, 0)
    assert chat["latency_ms"]["p50"] > 0
    assert chat["ttft_ms"]["p99"] > 0


async def test_many_streams_at_once_do_not_mix(rig: Rig) -> None:
    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        for letter in request["prompt"]:
            yield {"delta": letter}
            await asyncio.sleep(0)
        yield done(request["prompt"])

    rig.torchserve.script = script

    async def ask(number: int) -> None:
        prompt = f"nonce-{number:04}"
        response: httpx2.Response = await rig.client.post("/generate/stream", json={"prompt": prompt})
        *deltas, _, end = data_of(response.text)
        assert "".join(delta["delta"] for delta in deltas) == prompt
        assert end == "[DONE]"

    await asyncio.gather(*(ask(number) for number in range(32)))
