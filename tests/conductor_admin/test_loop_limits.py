"""Bodies and answers at each documented limit: no step of the gateway's loop takes 50 ms.

`tests/conftest.py` measures the steps of every test. Clients are in threads here, so that their work is no
step of this loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import orjson
import pytest

from handlers.json_bounds import CLIENT, WORKER, TooComplex, shape_of
from handlers.wire import MAX_PROMPT_CHARS
from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import MakeRig, Rig
from tests.conductor_admin.openai_calls import CHAT, SMALL
from tests.loop_steps import own_work

EMBEDDING = """# LLM Server Settings
|Category/Area|Best Open Source Model|VRAM/RAM Requirements|Technical Model Name|Stay Loaded|Precision|
|---|---|---|---|---|---|
| Embedding | Small | ~1GB | `models/small.gguf` | false | Q4_1 |
"""
TABLE = "# LLM Server Settings\n" + "".join(
    [
        *EMBEDDING.splitlines(keepends=True)[1:3],
        *(f"| Row {n} | Small | ~1GB | `models/m{n}.gguf` | false | Q4_1 |\n" for n in range(100)),
    ]
)
LISTS = ["/requests?limit=1000", "/models", "/stats", "/metrics", "/health", "/v1/models", "/sessions"]
CALL = {"id": "a", "name": "f", "arguments": "{}"}
MESSAGES = [{"role": "user", "content": "a word"}] * 10_000
PARTS = [{"role": "user", "content": [{"type": "text", "text": "a word"}]}] * 10_000
CALLED = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"description": "x" * 30_000, "parameters": {"type": "object"}}
CALLED_ITEM = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL] * 128}
LONG, ESCAPED, CHINESE = (
    "a word " * (MAX_PROMPT_CHARS // 7),
    "\x01" * MAX_PROMPT_CHARS,
    "漢" * MAX_PROMPT_CHARS,
)


def many_calls() -> list[dict[str, Any]]:
    """As many tool calls as a body may have objects."""
    count = (CLIENT.containers - 10) // (2 + 128)
    return [{"role": "user", "content": "Hi"}, *([CALLING] * count), {"role": "user", "content": "Hi"}]


NATIVE: dict[str, Callable[[], dict[str, Any]]] = {
    "a long prompt": lambda: {"prompt": LONG},
    "an escaped prompt": lambda: {"prompt": ESCAPED},
    "a Chinese prompt": lambda: {"prompt": CHINESE},
    "10,000 messages": lambda: {"messages": MESSAGES},
    "many calls": lambda: {"messages": many_calls()},
    "a long document": lambda: {"prompt": "x", "options": {"document": LONG}},
    "many options": lambda: {"prompt": "x", "options": {"a": list(range(CLIENT.values - 100))}},
    "a large schema": lambda: {"prompt": "x", "json_schema": {"enum": ["x" * 20] * 100_000}},
    "many biases": lambda: {"prompt": "x", "logit_bias": {str(n): 1.0 for n in range(1_000)}},
    "too many biases": lambda: {"prompt": "x", "logit_bias": {str(n): 1.0 for n in range(250_000)}},
}
BODIES: dict[str, dict[str, Callable[[], dict[str, Any]]]] = {
    "/generate": NATIVE,
    "/generate/stream": NATIVE,
    f"/predictions/{CHAT}": NATIVE,
    "/check": {
        "a long text": lambda: {"category": CHAT, "text": LONG[:1_000_000], "prompt": LONG},
        "an escaped text": lambda: {"category": CHAT, "text": ESCAPED[:10**6], "prompt": ESCAPED[10**6 :]},
    },
    "/v1/chat/completions": {
        "10,000 messages in parts": lambda: {"model": CHAT, "messages": PARTS},
        "an escaped prompt": lambda: {"model": CHAT, "messages": [{"role": "user", "content": ESCAPED}]},
        "128 tools": lambda: {"model": CHAT, "messages": MESSAGES[:1], "tools": [
            {"type": "function", "function": {**TOOL, "name": f"f{n}"}} for n in range(128)
        ]},
        "many calls": lambda: {"model": CHAT, "messages": [
            MESSAGES[0], *([{"role": "assistant", "tool_calls": [CALLED] * 128}] * 100), MESSAGES[0]
        ]},
    },
    "/v1/completions": {
        "a long prompt": lambda: {"model": SMALL, "prompt": LONG},
        "128 prompts": lambda: {"model": SMALL, "prompt": [LONG[:31_000]] * 128},
        "128 prompts of ids": lambda: {"model": SMALL, "prompt": [list(range(4_096))] * 128},
        "8 answers to 128 prompts": lambda: {"model": SMALL, "prompt": ["a word"] * 128, "n": 8},
        "500,000 ids": lambda: {"model": SMALL, "prompt": list(range(500_000))},
    },
    "/v1/responses": {
        "10,000 items": lambda: {"model": CHAT, "input": MESSAGES},
        "8,000 calls": lambda: {"model": CHAT, "input": [MESSAGES[0], *([CALLED_ITEM] * 8_000)]},
        "a long input": lambda: {"model": CHAT, "input": ESCAPED},
        "long instructions": lambda: {"model": CHAT, "input": "x", "instructions": LONG},
    },
}  # fmt: skip


async def post(rig: Rig, path: str, body: Callable[[], dict[str, Any]], **fields: Any) -> httpx2.Response:
    """Answer to a request of a client in a thread."""
    with own_work("writes a large body"):
        content = orjson.dumps({**body(), **fields})

    def send() -> httpx2.Response:
        with httpx2.Client(base_url=rig.url, timeout=60, trust_env=False) as client:
            return client.post(path, content=content, headers={"content-type": "application/json"})

    return await asyncio.to_thread(send)


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, kinds in BODIES.items() for name in kinds])
async def test_a_body_at_a_limit_is_answered_and_holds_nobody(rig: Rig, path: str, name: str) -> None:
    await rig.client.post(f"/admin/load/{CHAT}")
    answer = await post(rig, path, BODIES[path][name])
    assert answer.status_code in (200, 400), answer.text[:300]
    if answer.status_code == 400:
        assert answer.json()["error"]["code"] in (
            "invalid_value",
            "unknown_option",
            "context_length_exceeded",
        )


def test_the_limits_of_these_bodies_are_those_of_the_parser() -> None:
    most = orjson.dumps({"messages": many_calls()})
    assert CLIENT.containers - 200 < shape_of(most).containers <= CLIENT.containers < WORKER.containers
    with pytest.raises(TooComplex, match="32000 objects and arrays"):
        shape_of(orjson.dumps({"messages": [*many_calls(), CALLING, CALLING]}))


def row(offset: int, top: int) -> dict[str, Any]:
    """A token's row with alternatives."""
    one = {"id": 5, "token": " tok", "bytes": [32, 116, 111, 107], "logprob": -3.25}
    return {**one, "offset": offset, "top": [one] * top}


def answers_with_rows(top: int, tokens: int = 8_192) -> Callable[..., AsyncIterator[dict[str, Any]]]:
    """A worker whose answer and prompt have that many tokens."""

    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        with own_work("the worker's"):
            rows = [row(4 * n, top) for n in range(tokens)]
        if request["echo"]:
            yield {"prompt": {"text": " tok" * tokens, "tokens": rows}}
        for start in range(0, tokens, 512):
            yield {"delta": " tok" * 512, "logprobs": rows[start : start + 512]}
        last = done(" tok" * tokens)
        last["done"]["logprobs"] = rows
        yield last

    return script


async def test_all_log_probabilities_of_a_long_answer_are_told(rig: Rig) -> None:
    rig.torchserve.script = answers_with_rows(20)
    whole = await post(rig, "/generate", dict, prompt="x", logprobs=True, top_logprobs=20)
    with own_work("reads the answer"):
        assert whole.json()["logprobs"] == [row(4 * n, 20) for n in range(8_192)]
    records = await post(rig, f"/predictions/{CHAT}", dict, prompt="x", top_logprobs=20, stream=True)
    with own_work("reads the answer"):
        last = orjson.loads(records.text.splitlines()[-1])["done"]
        assert last["logprobs"] == whole.json()["logprobs"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_tells_all_log_probabilities(rig: Rig, stream: bool) -> None:
    rig.torchserve.script = answers_with_rows(20)
    body = {"model": CHAT, "messages": MESSAGES[:1], "logprobs": True, "top_logprobs": 20, "stream": stream}
    answer = await post(rig, "/v1/chat/completions", lambda: body)
    with own_work("reads the answer"):
        if stream:
            events = [orjson.loads(e[6:]) for e in answer.text.split("\n\n") if e.startswith("data: {")]
            told = [e["choices"][0]["logprobs"] for e in events if e["choices"]]
            tokens = [token for one in told if one for token in one["content"]]
        else:
            tokens = answer.json()["choices"][0]["logprobs"]["content"]
        assert len(tokens) == 8_192
        assert all(len(token["top_logprobs"]) == 20 for token in tokens)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_echo_tells_all_log_probabilities_of_prompt_and_answer(rig: Rig, stream: bool) -> None:
    rig.torchserve.script = answers_with_rows(5)
    body = {"model": SMALL, "prompt": "x", "logprobs": 5, "echo": True, "stream": stream}
    answer = await post(rig, "/v1/completions", lambda: body)
    with own_work("reads the answer"):
        if stream:
            events = [orjson.loads(e[6:]) for e in answer.text.split("\n\n") if e.startswith("data: {")]
            told = [e["choices"][0]["logprobs"] for e in events if e["choices"]]
            text = "".join(e["choices"][0]["text"] for e in events if e["choices"])
        else:
            choice = answer.json()["choices"][0]
            told, text = [choice["logprobs"]], choice["text"]
        offsets = [offset for one in told if one for offset in one["text_offset"]]
        assert text == " tok" * 16_384
        assert offsets == list(range(0, 4 * 16_384, 4))


@pytest.mark.parametrize("fields", [{}, {"encoding_format": "base64"}, {"dimensions": 383}], ids=str)
async def test_vectors_of_2048_texts_are_told(make_rig: MakeRig, fields: dict[str, Any]) -> None:
    with own_work("the worker's"):
        vectors = [[n / 7 + i for i in range(384)] for n in range(2_048)]

    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        last = done("")
        last["done"]["findings"] = {"embeddings": vectors, "dimensions": 384}
        yield last

    async with make_rig(settings=EMBEDDING) as rig:
        rig.torchserve.script = script
        answer = await post(rig, "/v1/embeddings", dict, model=SMALL, input=["a text"] * 2_048, **fields)
        plain = await post(rig, "/generate", dict, options={"inputs": ["a"] * 2_048}, category="embedding")
        with own_work("reads the answers"):
            found = [one["embedding"] for one in answer.json()["data"]]
            assert len(found) == 2_048
            assert fields or found == vectors
            assert plain.json()["findings"]["embeddings"] == vectors


async def test_lists_at_their_longest_hold_nobody(make_rig: MakeRig) -> None:
    async with make_rig(settings=TABLE, budget=200 * 10**9) as rig:
        with own_work("many clients"):
            bodies = [{"prompt": f"{n}", "category": f"row_{n % 100}"} for n in range(1_000)]
        for start in range(0, 1_000, 20):
            some = bodies[start : start + 20]
            await asyncio.gather(*(rig.client.post("/generate", json=body) for body in some))
        for path in LISTS:
            answer = await asyncio.to_thread(httpx2.get, rig.url + path)
            assert answer.status_code == (503 if path == "/health" else 200), path
        requests = await rig.client.get("/requests?limit=1000")
        assert len(requests.json()["requests"]) == 1_000
