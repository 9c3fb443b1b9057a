"""`/requests`: one trace for each generation, for its own caller, without text of prompt or answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest
from structlog.testing import capture_logs

from conductor_admin.auth.caller import OWNER, Caller
from conductor_admin.auth.keys import KeyBody
from conductor_admin.lifecycle.load_record import LoadRecord
from conductor_admin.planner import PlannedRequest, plan
from conductor_admin.telemetry.trace import Trace, Traces, conclusions
from conductor_core.catalogue import Catalogue
from handlers.wire import GenerateBody, RequestError
from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import OWNER_TOKEN, MakeRig, Rig
from tests.conductor_admin.key_rig import Keys, bearer
from tests.conductor_admin.test_memory_loads import ONE, TABLE

CHAT = "conversational_chat"
SECRET = "the colour of my door"


async def ask(rig: Rig, request_id: str, category: str = CHAT, **more: Any) -> httpx2.Response:
    body = {"prompt": SECRET, "category": category, **more}
    return await rig.client.post("/generate", json=body, headers={"x-request-id": request_id})


async def trace_of(rig: Rig, request_id: str) -> dict[str, Any]:
    response = await rig.client.get(f"/requests/{request_id}")
    assert response.status_code == 200, response.text
    return dict(response.json())


async def test_a_trace_says_what_was_waited_for_and_what_came_of_it(rig: Rig) -> None:
    assert (await ask(rig, "one")).status_code == 200
    trace = await trace_of(rig, "one")
    pid = rig.torchserve.workers(CHAT)[0].pid
    wanted = {
        "id": "one",
        "state": "succeeded",
        "route": "/generate",
        "category": CHAT,
        "engine": CHAT,
        "model": "models/small.gguf",
        "set": CHAT,
        "key": None,
        "session_id": None,
        "workers": [pid],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
        "timings": {"first_token_s": 0.01, "total_s": 0.02},
        "tokens_per_second": 200.0,
        "attempts": 1,
        "finish_reason": "stop",
        "error": None,
    }
    assert {name: trace[name] for name in wanted} == wanted
    assert 0 < trace["queue"]["seconds"] <= trace["first_token_s"] <= trace["seconds"]
    (load,) = trace["loads"]
    assert (load["set"], load["result"], load["evicted"]) == (CHAT, "ready", [])
    assert [phase["phase"] for phase in load["phases"]] == ["start", "convert", "wait", "start"]
    assert sum(phase["seconds"] for phase in load["phases"]) == pytest.approx(load["seconds"], abs=0.001)


async def test_a_request_of_a_loaded_set_has_waited_for_nothing(rig: Rig) -> None:
    await ask(rig, "one")
    await ask(rig, "two")
    trace = await trace_of(rig, "two")
    assert (trace["loads"], trace["queue"]["ahead"]) == ([], 0)


async def test_what_was_unloaded_for_a_request_is_named_with_the_reason(make_rig: MakeRig) -> None:
    async with make_rig(settings=TABLE, budget=ONE) as rig:
        await ask(rig, "one", "a")
        await ask(rig, "two", "b")
        (load,) = (await trace_of(rig, "two"))["loads"]
    assert load["evicted"] == [{"set": "a", "reason": "memory"}]
    assert (load["queue_position"], load["queue_length"]) == (1, 1)


async def test_a_trace_can_be_read_while_its_request_waits_and_runs(rig: Rig) -> None:
    ends = asyncio.Event()

    async def one_piece(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": "one"}
        await ends.wait()
        yield done("one")

    rig.torchserve.script = one_piece
    rig.torchserve.may_load.clear()
    first = asyncio.create_task(ask(rig, "one"))
    await rig.until(lambda: rig.lifecycle.view(CHAT).phase == "start")
    second = asyncio.create_task(ask(rig, "two", "legal_analysis"))
    await rig.until(lambda: len(list(rig.gateway.telemetry.traces.running())) == 2)
    waiting = await trace_of(rig, "two")
    assert (waiting["state"], waiting["stage"], waiting["queue"]["ahead"]) == ("queued", "queue", 1)
    assert waiting["loads"][0]["result"] is None
    rig.torchserve.may_load.set()
    await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 2)
    assert (await trace_of(rig, "one"))["state"] == "running"
    ends.set()
    assert (await first).status_code == (await second).status_code == 200
    assert (await trace_of(rig, "one"))["state"] == "succeeded"


async def test_a_failed_load_and_a_client_that_left_are_told(rig: Rig) -> None:
    rig.torchserve.traceback = "ValueError: broken"
    await ask(rig, "failed")
    failed = await trace_of(rig, "failed")
    assert (failed["state"], failed["stage"], failed["workers"]) == ("failed", "queue", [])
    assert failed["error"]["code"] == "model_load_failed"
    assert "ValueError: broken" in failed["error"]["message"]
    assert failed["loads"][0]["result"] == "failed"
    rig.torchserve.may_load.clear()
    leaving = asyncio.create_task(ask(rig, "left", "translation"))
    await rig.until(lambda: len(list(rig.gateway.telemetry.traces.running())) == 1)
    leaving.cancel()
    await rig.until(lambda: not list(rig.gateway.telemetry.traces.running()))
    left = await trace_of(rig, "left")
    assert (left["state"], left["error"], left["finish_reason"]) == ("cancelled", None, None)


async def test_a_second_attempt_of_an_engine_is_counted(rig: Rig) -> None:
    async def twice(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": 'no {"attempt":1}'}
        yield {"attempt": 2}
        yield done("yes")

    rig.torchserve.script = twice
    await ask(rig, "one")
    assert (await trace_of(rig, "one"))["attempts"] == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/responses", {"input": "x"}),
    ],
)
async def test_the_ids_of_v1_are_those_of_traces(rig: Rig, path: str, body: dict[str, Any]) -> None:
    answer = (await rig.client.post(path, json={"model": CHAT, **body})).json()
    trace = await trace_of(rig, answer["id"])
    assert (trace["route"], trace["state"]) == (path, "succeeded")


async def test_why_auto_chose_a_category_is_in_the_trace(rig: Rig) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "Translate 'dog' into French"}]}
    answer = await rig.client.post("/v1/chat/completions", json=body)
    trace = await trace_of(rig, answer.json()["id"])
    assert trace["reason"] == answer.headers["x-conductor-reason"]


async def test_a_trace_is_for_its_key_and_for_administrators(keys: Keys) -> None:
    other = keys.rig.gateway.keys.file.create(KeyBody(name="other"))[1]
    headers = {**bearer(keys.infer), "x-request-id": "mine"}
    await keys.rig.client.post("/generate", json={"prompt": "x"}, headers=headers)
    path = "/requests/mine"
    for text in (keys.infer, keys.admin, OWNER_TOKEN):
        found = await keys.ask("GET", path, text)
        assert (found.status_code, found.json()["category"]) == (200, CHAT)
        assert keys.infer not in found.text
    for request_id in ("mine", "nothing"):
        refused = await keys.ask("GET", f"/requests/{request_id}", other)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "request_not_found")
    assert (await keys.ask("GET", path, None)).status_code == 401
    assert (await keys.ask("GET", "/requests", keys.infer)).status_code == 403
    listed = (await keys.ask("GET", "/requests?limit=1", keys.admin)).json()["requests"]
    assert [trace["id"] for trace in listed] == ["mine"]


async def test_an_id_that_another_key_uses_too_hides_no_trace(keys: Keys) -> None:
    for text in (keys.infer, keys.both):
        headers = {**bearer(text), "x-request-id": "same"}
        await keys.rig.client.post("/generate", json={"prompt": "x"}, headers=headers)
    read = [(await keys.ask("GET", "/requests/same", text)).json()["key"] for text in (keys.infer, keys.both)]
    assert len(set(read)) == 2


@pytest.mark.parametrize("limit", ["0", "1001", "x", "-1", "99999", "\u0661"])
async def test_a_wrong_limit_is_refused(rig: Rig, limit: str) -> None:
    assert (await rig.client.get("/requests", params={"limit": limit})).status_code == 400


async def test_nothing_that_was_said_is_in_traces_logs_or_metrics(rig: Rig) -> None:
    async def quotes(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        record = done(f"about {SECRET}")
        record["done"]["findings"] = {"quotes": [SECRET], "label": SECRET, "verified": "unknown"}
        yield record

    rig.torchserve.script = quotes
    with capture_logs() as logs:
        await ask(rig, "one", session="new")
    texts = [
        (await rig.client.get("/requests")).text,
        (await rig.client.get("/metrics")).text,
        orjson.dumps(logs, default=str).decode(),
    ]
    assert not [text for text in texts if SECRET in text]
    assert (await trace_of(rig, "one"))["findings"] == {
        "quotes": {"items": 1},
        "label": {"characters": len(SECRET)},
        "verified": "unknown",
    }


async def test_each_generation_is_one_line_of_the_log_with_the_figures_of_its_trace(rig: Rig) -> None:
    with capture_logs() as logs:
        await ask(rig, "one")
    (line,) = [line for line in logs if line["event"].startswith("generation")]
    trace = await trace_of(rig, "one")
    assert line["id"] == "one"
    assert line["route"] == "/generate"
    assert line["worker"] == trace["workers"][-1]
    assert line["first_token_seconds"] == trace["first_token_s"]
    assert line["queue_seconds"] == trace["queue"]["seconds"]
    assert line["tokens_per_second"] == 200.0
    assert line["finish_reason"] == "stop"


def job(catalogue: Catalogue, request_id: str, caller: Caller = OWNER) -> PlannedRequest:
    return plan(catalogue, GenerateBody(prompt="x"), request_id, caller=caller)


def kept(catalogue: Catalogue, traces: Traces, request_id: str) -> None:
    trace = Trace(job(catalogue, request_id))
    traces.begin(trace)
    traces.end(trace)


def test_the_oldest_traces_go_by_number_and_by_bytes(catalogue: Catalogue) -> None:
    size = len(orjson.dumps(Trace(job(catalogue, "0000")).to_json()))
    for traces in (Traces(most=2), Traces(most_bytes=2 * size + 50)):
        for number in range(4):
            kept(catalogue, traces, f"{number:04}")
        assert [trace["id"] for trace in orjson.loads(orjson.dumps(traces.latest(9)))] == ["0003", "0002"]
        with pytest.raises(RequestError):
            traces.read("0001", OWNER)


def test_conclusions_have_no_words_of_an_answer() -> None:
    findings = {
        "verified": True,
        "words": 12,
        "answer": 42,
        "language": "python",
        "data": {"name": "Ann"},
        "chart": "iVBOR",
        "note": None,
    }
    assert conclusions(findings) == {
        "verified": True,
        "words": 12,
        "answer": {"number": True},
        "language": "python",
        "data": {"items": 1},
        "chart": {"characters": 5},
        "note": None,
    }


def test_phases_of_a_load_add_up_to_it() -> None:
    clock = iter([0.0, 1.0, 3.0, 7.0])
    load_record = LoadRecord("s", clock=lambda: next(clock))
    for phase in ("convert", "convert", "start"):
        load_record.enter(phase)
    load_record.end("ready")
    told = load_record.to_json()
    assert told["phases"] == [{"phase": "convert", "seconds": 2.0}, {"phase": "start", "seconds": 4.0}]
    assert told["seconds"] == 7.0
