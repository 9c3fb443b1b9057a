"""`/v1/embeddings` over real sockets and the fake TorchServe."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import MakeRig, Rig
from tests.conductor_admin.openai_calls import CHAT

URL = "/v1/embeddings"
SETTINGS = """# LLM Server Settings
|Category/Area|Best Open Source Model|VRAM/RAM Requirements|Technical Model Name|Stay Loaded|Precision|
|---|---|---|---|---|---|
| Embedding | Small | ~1GB | `models/vectors` | false | FP32 |
"""


async def vectors(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """A worker whose every vector is (0.6, 0.8, 0)."""
    last = done("")
    made = [[0.6, 0.8, 0.0] for _ in request["options"]["inputs"]]
    last["done"] |= {
        "usage": {"prompt_tokens": 4, "completion_tokens": 0},
        "findings": {"embeddings": made, "dimensions": 3, "truncated": [1], "warnings": ["cut"]},
    }
    yield last


@pytest.mark.parametrize("model", ["embedding", "Embedding", "models/vectors"])
async def test_each_text_gets_a_vector(make_rig: MakeRig, model: str) -> None:
    async with make_rig(settings=SETTINGS) as rig:
        rig.torchserve.script = vectors
        response = await rig.client.post(URL, json={"model": model, "input": ["a", "b"]})
        body = response.json()
        assert body["object"] == "list"
        assert body["model"] == model.lower()
        assert body["data"] == [
            {"object": "embedding", "index": index, "embedding": [0.6, 0.8, 0.0]} for index in (0, 1)
        ]
        assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
        assert body["conductor"]["findings"] == {"dimensions": 3, "truncated": [1], "warnings": ["cut"]}
        (request,) = rig.torchserve.workers("embedding")[0].requests
        assert (request["engine"], request["options"]) == ("embedding", {"inputs": ["a", "b"]})


async def test_vectors_may_be_packed_and_cut(make_rig: MakeRig) -> None:
    async with make_rig(settings=SETTINGS) as rig:
        rig.torchserve.script = vectors
        fields = {"model": "embedding", "input": "a"}
        packed = (await rig.client.post(URL, json={**fields, "encoding_format": "base64"})).json()
        raw = base64.b64decode(packed["data"][0]["embedding"])
        assert struct.unpack("<3f", raw) == pytest.approx((0.6, 0.8, 0))
        cut = (await rig.client.post(URL, json={**fields, "dimensions": 1})).json()
        assert cut["data"][0]["embedding"] == [1.0]
        more = await rig.client.post(URL, json={**fields, "dimensions": 4})
        assert (more.status_code, more.json()["error"]["param"]) == (400, "dimensions")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": [[1], [2]]}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
    ],
)
async def test_what_cannot_be_embedded_is_refused_by_name(
    make_rig: MakeRig, fields: dict[str, Any], param: str
) -> None:
    async with make_rig(settings=SETTINGS) as rig:
        response = await rig.client.post(URL, json={"model": "embedding", **fields})
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)
        assert not rig.torchserve.registered


async def test_a_category_that_makes_no_vectors_is_refused_before_a_load(rig: Rig) -> None:
    response = await rig.client.post(URL, json={"model": CHAT, "input": "x"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "model")
    assert not rig.torchserve.registered
