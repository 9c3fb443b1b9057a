"""`/metrics`: counts, their labels, and scrapes without side effects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from conductor_admin.app import create_app
from conductor_admin.lifecycle.states import State
from conductor_mcp.endpoint import McpEndpoint
from tests.conductor_admin.fake_torchserve import SocketServer
from tests.conductor_admin.gateway_rig import MakeRig, Rig
from tests.conductor_admin.key_rig import Keys
from tests.conductor_admin.scraped import Scraped, scraped
from tests.conductor_admin.test_keys_rules import key
from tests.conductor_admin.test_memory_loads import ONE, TABLE
from tests.loop_steps import own_work

CHAT = "conversational_chat"
STEMS = (
    "prompt_tokens_total generation_tokens_total request_success_total time_to_first_token_seconds_count "
    "inter_token_latency_seconds_count e2e_request_latency_seconds_count request_queue_time_seconds_count "
    "request_prefill_time_seconds_count request_decode_time_seconds_count num_requests_running "
    "num_requests_waiting"
)


async def ask(rig: Rig, category: str = CHAT, **more: Any) -> httpx2.Response:
    return await rig.client.post("/generate", json={"prompt": "x", "category": category, **more})


async def silent(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    await asyncio.Event().wait()
    yield {}


async def one_piece(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield {"delta": "one"}
    await asyncio.Event().wait()


async def test_an_answer_is_counted_under_the_stems_of_vllm(rig: Rig) -> None:
    assert (await ask(rig)).status_code == 200
    now = await scraped(rig)
    for stem in STEMS.split():
        assert "model_name" in now.labels[f"conductor_{stem}"], stem
    chat = {"model_name": CHAT}
    assert now.value("request_success_total", finished_reason="stop", **chat) == 1
    assert now.value("prompt_tokens_total", **chat) == 5
    assert now.value("generation_tokens_total", **chat) == 3
    assert now.value("time_to_first_token_seconds_count", **chat) == 1
    assert now.value("request_prefill_time_seconds_sum", **chat) == pytest.approx(0.01)
    assert now.value("request_decode_time_seconds_sum", **chat) == pytest.approx(0.01)
    assert now.value("inter_token_latency_seconds_sum", **chat) == pytest.approx(0.005)
    assert now.value("model_loads_total", category=CHAT, result="ready") == 1
    assert now.value("model_load_seconds_count", category=CHAT) == 1
    assert now.value("models_loaded") == 1
    assert now.value("model_memory_bytes", category=CHAT, kind="measured") == 1000


async def test_every_row_has_its_figures_before_it_was_asked(rig: Rig) -> None:
    now = await scraped(rig)
    assert now.values("model_name") == {CHAT, "legal_analysis", "translation"}
    assert now.value("models_loaded") == 0


async def test_running_and_waiting_requests_are_told_apart(rig: Rig) -> None:
    rig.torchserve.script = one_piece
    rig.torchserve.may_load.clear()
    asking = asyncio.create_task(ask(rig))
    await rig.until(lambda: rig.lifecycle.view(CHAT).phase == "start")
    now = await scraped(rig)
    assert (now.value("num_requests_waiting"), now.value("num_requests_running")) == (1, 0)
    rig.torchserve.may_load.set()
    await rig.until(lambda: rig.lifecycle.view(CHAT).in_flight == 1)
    now = await scraped(rig)
    assert (now.value("num_requests_waiting"), now.value("num_requests_running")) == (0, 1)
    asking.cancel()


@pytest.mark.parametrize("phase", ["queue", "prefill", "decode"])
async def test_a_client_that_leaves_is_counted_by_how_far_its_request_was(rig: Rig, phase: str) -> None:
    rig.torchserve.script = one_piece if phase == "decode" else silent
    if phase == "queue":
        rig.torchserve.may_load.clear()
    leaving = asyncio.create_task(ask(rig))
    traces = rig.gateway.telemetry.traces
    await rig.until(lambda: [trace.stage for trace in traces.running()] == [phase])
    leaving.cancel()
    await rig.until(lambda: not list(traces.running()))
    now = await scraped(rig)
    assert now.value("request_cancelled_total", model_name=CHAT, phase=phase) == 1
    assert now.value("request_errors_total") == now.value("request_success_total") == 0


async def test_errors_are_counted_by_their_code(rig: Rig) -> None:
    async def fails(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        fault = {"message": "too long", "type": "invalid_request_error", "param": "prompt"}
        yield {"error": {**fault, "code": "context_length_exceeded", "status": 400}}

    rig.torchserve.script = fails
    assert (await ask(rig)).status_code == 400
    now = await scraped(rig)
    assert now.value("request_errors_total", model_name=CHAT, code="context_length_exceeded") == 1
    assert now.value("http_requests_total", route="/generate", code="400") == 1


async def test_a_load_that_fails_and_a_worker_that_ends_are_counted(rig: Rig) -> None:
    assert (await ask(rig)).status_code == 200
    await rig.torchserve.workers(CHAT)[0].kill()
    assert (await ask(rig)).status_code == 200
    rig.torchserve.traceback = "ValueError: broken"
    assert (await ask(rig, "translation")).status_code == 503
    now = await scraped(rig)
    assert now.value("worker_restarts_total", category=CHAT) == 1
    assert now.value("model_loads_total", category=CHAT) == 1
    assert now.value("model_loads_total", category="translation", result="failed") == 1
    assert now.value("request_errors_total", model_name="translation", code="model_load_failed") == 1


async def test_evictions_are_counted_with_their_reason(make_rig: MakeRig) -> None:
    async with make_rig(settings=TABLE, budget=ONE) as rig:
        for category in ("a", "b"):
            assert (await ask(rig, category)).status_code == 200
        now = await scraped(rig)
        assert now.value("model_evictions_total", category="a", reason="memory") == 1
        assert now.value("swaps_total") == 1
        sizes = {name: now.value(f"memory_{name}_bytes", device="cpu") for name in ("budget", "used", "free")}
    assert sizes["used"] + sizes["free"] == sizes["budget"] == ONE


async def test_refused_keys_and_rates_are_counted(rig: Rig) -> None:
    who = key(rig, requests_per_minute=1)
    for wanted in (200, 429):
        assert (await rig.client.post("/generate", json={"prompt": "x"}, headers=who)).status_code == wanted
    assert (await ask(rig)).status_code == 401
    now = await scraped(rig, who)
    assert now.value("rate_limited_total") == 1
    assert now.value("auth_failures_total") == 1
    assert now.value("http_requests_total", route="/generate", code="401") == 1


async def test_no_client_can_make_a_label(rig: Rig) -> None:
    for number in range(20):
        assert (await ask(rig, f"nothing_{number}")).status_code == 404
        await rig.client.get(f"/nothing/{number}")
        await rig.client.get(f"/models/nothing{number}")
        await rig.client.get(f"/requests/nothing{number}")
        await rig.client.get("/health", headers={"host": f"nothing{number}"})
    now = await scraped(rig)
    assert not [
        value
        for label in ("route", "model_name", "code")
        for value in now.values(label)
        if "nothing" in value
    ]
    assert now.value("request_errors_total", model_name="other", code="model_not_found") == 20
    assert now.value("http_requests_total", route="unmatched", code="404") == 20
    assert now.value("http_requests_total", route="unmatched", code="421") == 20
    assert now.value("http_requests_total", route="/models/{category}", code="404") == 20


async def test_a_scrape_loads_nothing_and_keeps_nothing_loaded(rig: Rig) -> None:
    assert (await ask(rig)).status_code == 200
    before = rig.lifecycle.view(CHAT)
    await scraped(rig)
    after = rig.lifecycle.view(CHAT)
    assert after.last_used == before.last_used
    assert after.expires_at == pytest.approx(before.expires_at)
    assert rig.lifecycle.view("translation").state is State.UNAVAILABLE


async def test_openmetrics_is_given_where_it_is_asked_for(rig: Rig) -> None:
    await ask(rig)
    plain = await rig.client.get("/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    wanted = {"accept": "application/openmetrics-text; version=1.0.0"}
    asked = await rig.client.get("/metrics", headers=wanted)
    assert asked.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert asked.text.endswith("# EOF\n")
    families = list(text_string_to_metric_families(asked.text))  # type: ignore[no-untyped-call]
    assert "conductor_request_success" in {family.name for family in families}


async def test_metrics_need_any_key_once_there_are_keys(keys: Keys) -> None:
    assert (await keys.ask("GET", "/metrics", None)).status_code == 401
    for text in (keys.infer, keys.admin):
        assert (await keys.ask("GET", "/metrics", text)).status_code == 200


async def test_metrics_are_served_beside_mcp_alone_and_without_models(make_rig: MakeRig) -> None:
    async with make_rig(serves=False) as rig:
        with own_work("builds an application"):
            app = create_app(rig.gateway, McpEndpoint(rig.gateway).routes, mcp_only=True)
        server = SocketServer(app)
        await server.start()
        try:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
                assert Scraped.of((await client.get("/metrics")).text).value("models_loaded") == 0
                assert (await client.get("/requests")).status_code == 404
        finally:
            await server.stop()
        assert (await scraped(rig)).value("models_loaded") == 0


async def test_sessions_are_counted_and_a_broken_database_hides_only_itself(rig: Rig) -> None:
    await ask(rig, session="new")
    assert (await scraped(rig)).value("sessions") == 1
    await rig.gateway.sessions.store.close()
    now = await scraped(rig)
    assert "conductor_sessions" not in now.labels
    assert now.value("models_loaded") == 1


async def test_what_held_the_loops_of_workers_is_told_by_set(rig: Rig) -> None:
    assert (await ask(rig)).status_code == 200
    rig.torchserve.workers(CHAT)[0].loop_held = 3
    await rig.lifecycle.refresh()
    now = await scraped(rig)
    assert now.value("worker_loop_held_steps", category=CHAT) == 3
    assert now.value("worker_loop_longest_seconds", category=CHAT) == 0.25
