"""The other routes: models, health, check, TorchServe's own routes, the OpenAPI document."""

from __future__ import annotations

import orjson
import pytest

from handlers.engines.registry import engine_class
from handlers.wire import GenerateRequest
from tests.conductor_admin.gateway_rig import MakeRig, Rig


async def test_models_lists_every_row_with_every_field(rig: Rig) -> None:
    rows = (await rig.client.get("/models")).json()["models"]
    assert [row["category"] for row in rows] == ["conversational_chat", "legal_analysis", "translation"]
    fields = (
        "category state phase progress model technical_model_name precision runtime device stay_loaded "
        "vram_requirement memory workers in_flight set shared_with last_used expires_at last_error"
    )
    assert set(fields.split()) <= rows[0].keys()
    assert rows[0]["shared_with"] == ["legal_analysis"]
    assert rows[1]["set"] == "conversational_chat"
    unknown = dict.fromkeys(("estimated", "measured", "peak", "correction"))
    assert rows[2]["memory"] == {"declared": 10**9, **unknown}
    assert not rig.torchserve.registered


async def test_a_row_shows_its_worker_and_memory_once_it_is_ready(rig: Rig) -> None:
    await rig.client.post("/generate", json={"prompt": "x"})
    row = (await rig.client.get("/models/Conversational Chat")).json()
    assert row["state"] == "READY"
    guesses = {"declared": 10**9, "estimated": 500}
    assert row["memory"] == {**guesses, "measured": 1000, "peak": 1000, "correction": "~1KB (Q4_1)"}
    (worker,) = row["workers"]
    assert worker == {"pid": worker["pid"], "state": "READY", "in_flight": 0, "waiting": 0}
    assert row["last_used"] > 0


async def test_an_unknown_model_is_404(rig: Rig) -> None:
    response = await rig.client.get("/models/translatoin")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


async def test_ready_waits_for_residents_and_health_says_why(rig: Rig) -> None:
    assert (await rig.client.get("/health/live")).status_code == 200
    assert (await rig.client.get("/health/ready")).status_code == 503
    assert (await rig.client.get("/ping")).json() == {"status": "Unhealthy"}
    rig.lifecycle.start()
    await rig.until(lambda: rig.lifecycle.view("conversational_chat").state == "READY")
    assert (await rig.client.get("/health/ready")).json() == {"ready": True}
    assert (await rig.client.get("/ping")).json() == {"status": "Healthy"}
    assert (await rig.client.get("/health")).json()["status"] == "ok"


async def test_a_failed_resident_is_settled_and_health_names_its_cause(rig: Rig) -> None:
    rig.torchserve.traceback = "ValueError: broken"
    rig.lifecycle.start()
    await rig.until(lambda: rig.lifecycle.view("conversational_chat").state == "FAILED")
    assert (await rig.client.get("/health/ready")).status_code == 200
    detail = (await rig.client.get("/health")).json()
    assert detail["status"] == "degraded"
    assert detail["sets"][0]["error"] == "ValueError: broken"
    assert detail["sets"][0]["retry_after_s"] > 0


async def test_without_torchserve_nothing_is_ready(rig: Rig) -> None:
    await rig.lifecycle.torchserve_ended()
    assert (await rig.client.get("/health/ready")).status_code == 503


async def test_skipping_models_is_live_but_not_ready(make_rig: MakeRig) -> None:
    async with make_rig(serves=False) as rig:
        assert (await rig.client.get("/health/live")).status_code == 200
        assert (await rig.client.get("/health/ready")).status_code == 503


async def test_check_runs_the_engine_and_loads_nothing(rig: Rig) -> None:
    (row,) = [row for row in rig.gateway.catalogue.rows if row.slug == "translation"]
    body = {"category": "translation", "prompt": "ask", "text": "answer"}
    asked = GenerateRequest(id="r", engine=row.engine, prompt="ask")
    found = engine_class(row.engine)().check(asked, "answer")
    reply = await rig.client.post("/check", json=body, timeout=60)  # the first one loads libraries
    assert reply.json() == {"findings": found}
    assert (await rig.client.post("/check", json={"text": 5})).status_code == 400
    assert not rig.torchserve.registered


async def test_predictions_answer_as_generate_does(rig: Rig) -> None:
    answer = (await rig.client.post("/predictions/translation", json={"prompt": "x"})).json()
    assert (answer["category"], answer["text"]) == ("translation", "one two three")
    path = "/predictions/translation/0123456789ab/general_reasoning"
    assert (await rig.client.post(path, json={"prompt": "x"})).json()["text"] == "one two three"


async def test_streamed_predictions_are_the_workers_records(rig: Rig) -> None:
    response = await rig.client.post("/predictions/translation", json={"prompt": "x", "stream": True})
    *deltas, last = [orjson.loads(line) for line in response.text.splitlines()]
    assert "".join(delta["delta"] for delta in deltas) == last["done"]["text"]
    assert response.headers["content-type"] == "application/x-ndjson"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/predictions/nothing", "ModelNotFoundException"),
        ("/predictions/translation/ffffffffffff", "ModelVersionNotFoundException"),
    ],
)
async def test_predictions_refuse_in_torchserves_words(rig: Rig, path: str, kind: str) -> None:
    response = await rig.client.post(path, json={"prompt": "x"})
    assert response.status_code == 404
    assert (response.json()["code"], response.json()["type"]) == (404, kind)
    assert response.json()["message"] == response.json()["error"]["message"]


async def test_the_document_describes_bodies_with_their_bounds(rig: Rig) -> None:
    document = (await rig.client.get("/openapi.json")).json()
    content = document["paths"]["/generate"]["post"]["requestBody"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/GenerateBody"}
    schemas = document["components"]["schemas"]
    assert schemas["GenerateBody"]["additionalProperties"] is False
    assert "MessageBody" in schemas
    parts = orjson.dumps(document).decode().split("#/components/schemas/")[1:]
    assert {part.partition('"')[0] for part in parts} <= schemas.keys()
