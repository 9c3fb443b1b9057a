"""`/v1/models`, and the OpenAPI document of /v1."""

from __future__ import annotations

import pytest

from conductor_admin.auth.keys import KeyBody
from tests.conductor_admin.gateway_rig import MakeRig, Rig
from tests.conductor_admin.key_rig import Keys
from tests.conductor_admin.openai_calls import SMALL, chat

HUB = """# LLM Server Settings
|Category/Area|Best Open Source Model|VRAM/RAM Requirements|Technical Model Name|Stay Loaded|Precision|
|---|---|---|---|---|---|
| Conversational Chat | Llama | ~8GB | `meta-llama/Llama-3.1-8B-Instruct` | false | FP16 |
"""


async def test_categories_come_first_and_each_model_once(rig: Rig) -> None:
    body = (await rig.client.get("/v1/models")).json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == [
        "conversational_chat",
        "legal_analysis",
        "translation",
        SMALL,
        "models/other.gguf",
    ]
    assert {model["object"] for model in body["data"]} == {"model"}
    assert all(model["created"] > 1_700_000_000 and model["owned_by"] for model in body["data"])
    assert not rig.torchserve.registered


async def test_every_listed_model_can_be_had_by_its_id(rig: Rig) -> None:
    for model in (await rig.client.get("/v1/models")).json()["data"]:
        assert (await rig.client.get(f"/v1/models/{model['id']}")).json() == model


async def test_a_model_of_the_hub_is_owned_by_its_organisation(make_rig: MakeRig) -> None:
    async with make_rig(settings=HUB) as rig:
        model = (await rig.client.get("/v1/models/meta-llama/Llama-3.1-8B-Instruct")).json()
        assert (model["id"], model["owned_by"]) == ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama")


async def test_an_unknown_model_is_404_with_close_names(rig: Rig) -> None:
    response = await rig.client.get("/v1/models/translaton")
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "model_not_found")
    assert "did you mean translation" in error["message"]


async def test_a_key_sees_and_uses_its_own_categories_only(keys: Keys) -> None:
    _, text = keys.rig.gateway.keys.file.create(
        KeyBody(name="one", scopes=["infer"], categories=["translation"])
    )
    listed = (await keys.ask("GET", "/v1/models", text)).json()["data"]
    assert [model["id"] for model in listed] == ["translation", "models/other.gguf"]
    for name in ("conversational_chat", SMALL):
        body = chat(model=name)
        response = await keys.ask("POST", "/v1/chat/completions", text, json=body)
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/chat/completions", "ChatBody"),
        ("/v1/completions", "CompletionBody"),
        ("/v1/embeddings", "EmbeddingsBody"),
        ("/v1/responses", "ResponsesBody"),
    ],
)
async def test_the_document_describes_the_bodies(rig: Rig, path: str, model: str) -> None:
    document = (await rig.client.get("/openapi.json")).json()
    content = document["paths"][path]["post"]["requestBody"]["content"]
    assert content["application/json"]["schema"] == {"$ref": f"#/components/schemas/{model}"}
    assert "model" in document["components"]["schemas"][model]["required"]
