"""Requests to /v1 as clients send them, and answers of workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson

from tests.conductor_admin.fake_torchserve import Script, done
from tests.conductor_admin.gateway_rig import Rig

CHAT = "conversational_chat"
SMALL = "models/small.gguf"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"$ref": "#/$defs/City"}},
            "required": ["city"],
            "$defs": {"City": {"type": "string"}},
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def chat(**fields: Any) -> dict[str, Any]:
    """A body of chat completions."""
    return {"model": CHAT, "messages": [{"role": "user", "content": "count"}], **fields}


def says(*pieces: str, finish_reason: str = "stop", **fields: Any) -> Script:
    """A worker that answers with `pieces`; `fields` are further ones of its last record."""

    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        for piece in pieces:
            yield {"delta": piece}
        last = done("".join(pieces), finish_reason)
        last["done"] |= fields
        yield last

    return script


def token(text: str, logprob: float | None, offset: int, *others: tuple[str, float]) -> dict[str, Any]:
    """A token row as a worker sends it; `others` are more likely alternatives."""
    top = [{"id": 1, "token": name, "bytes": list(name.encode()), "logprob": p} for name, p in others]
    return {
        "id": 2,
        "token": text,
        "bytes": list(text.encode()),
        "logprob": logprob,
        "offset": offset,
        "top": top,
    }


def chunks(text: str) -> list[Any]:
    """The data of each event; `[DONE]` as itself."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else orjson.loads(line) for line in lines]


async def asked(rig: Rig, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The request that a worker got for `body`."""
    response = await rig.client.post(path, json=body)
    assert response.status_code == 200, response.text
    slug = response.headers["x-conductor-category"]
    worker_set = rig.gateway.catalogue.set_of(slug).name
    return dict(rig.torchserve.workers(worker_set)[0].requests[-1])
