"""OpenAI's own Python library: every route, streamed and whole, and the errors as its classes."""

from __future__ import annotations

import json
from typing import Any

from checks import BASE, CHAT, COUNT, KEY, SCORED, check, finish
from openai import AuthenticationError, BadRequestError, NotFoundError, OpenAI
from pydantic import BaseModel, Field

client = OpenAI(base_url=BASE, api_key=KEY)
HELLO: Any = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
asked: dict[str, Any] = {"model": CHAT, "messages": HELLO, "max_tokens": 24, "temperature": 0}
sure = {**asked, "messages": COUNT}
with_tools = {**asked, "tools": [WEATHER], "max_tokens": 80, "parallel_tool_calls": False}


class City(BaseModel):
    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


with check("models"):
    names = [model.id for model in client.models.list()]
    assert names[0] == CHAT
    assert client.models.retrieve(names[-1]).id == names[-1]

with check("chat"):
    answer = client.chat.completions.create(**sure)
    assert answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.model == CHAT

with check("chat stream"):
    chunks = list(client.chat.completions.create(**sure, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == answer.choices[0].message.content
    assert chunks[-1].usage == answer.usage

with check("chat stream helper"), client.chat.completions.stream(**asked) as stream:
    for _ in stream:
        pass
    assert stream.get_final_completion().choices[0].message.content == text

with check("n"):
    several = client.chat.completions.create(**{**asked, "temperature": 1.3, "n": 3, "seed": 1})
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in several.choices}) > 1

with check("logprobs"):
    told = client.chat.completions.create(**{**asked, "model": SCORED}, logprobs=True, top_logprobs=2)
    tokens = told.choices[0].logprobs.content
    assert tokens and all(len(token.top_logprobs) == 2 for token in tokens)
    assert "".join(token.token for token in tokens).startswith(told.choices[0].message.content[:10])

for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
    mode = choice if isinstance(choice, str) else "named"
    with check(f"tools {mode}"):
        called = client.chat.completions.create(**with_tools, tool_choice=choice).choices[0]
        assert called.finish_reason == "tool_calls"
        (call,) = called.message.tool_calls
        assert json.loads(call.function.arguments).keys() == {"city"}
    with check(f"tools {mode} stream"):
        written = ""
        for chunk in client.chat.completions.create(**with_tools, tool_choice=choice, stream=True):
            for part in chunk.choices[0].delta.tool_calls or ():
                written += part.function.arguments
        assert json.loads(written) == json.loads(call.function.arguments)

with check("tools auto"):
    free = client.chat.completions.create(**with_tools, tool_choice="auto").choices[0]
    assert (free.message.tool_calls and free.finish_reason == "tool_calls") or free.message.content
    print("auto:", free.message.content, free.message.tool_calls)

with check("tools none"):
    assert not client.chat.completions.create(**with_tools, tool_choice="none").choices[0].message.tool_calls

with check("tool result"):
    turns = [
        *HELLO,
        {"role": "assistant", "tool_calls": [call.model_dump()]},
        {"role": "tool", "tool_call_id": call.id, "content": "18 degrees, sun"},
    ]
    assert client.chat.completions.create(**{**with_tools, "messages": turns}).choices[0].message

with check("parse with pydantic"):
    parsed = client.chat.completions.parse(**{**asked, "max_tokens": 120}, response_format=City)
    assert isinstance(parsed.choices[0].message.parsed, City)

with check("json_object"):
    form: Any = {"type": "json_object"}
    held = client.chat.completions.create(
        **{**asked, "max_tokens": 200, "model": CHAT, "response_format": form, "frequency_penalty": 1.0}
    ).choices[0]
    assert held.finish_reason == "length" or isinstance(json.loads(held.message.content), dict)

with check("extension fields"):
    body = {"options": {"history_tokens": 200}, "persona": "Tutor"}
    more = client.chat.completions.create(**asked, extra_body=body)
    assert more.conductor["findings"]["turns"] == 1
    made = client.chat.completions.create(**asked, extra_body={"session": "new"})
    again = client.chat.completions.create(**asked, extra_body={"session_id": made.conductor["session_id"]})
    assert again.conductor["findings"]["turns"] == 2

with check("completions"):
    done = client.completions.create(model=CHAT, prompt="The capital of France is", max_tokens=8)
    assert done.choices[0].text
    pieces = client.completions.create(model=CHAT, prompt="One, two,", max_tokens=8, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces)
    filled = client.completions.create(
        model="code_completion", prompt="def add(a, b):\n    return ", suffix="\n"
    )
    assert filled.choices[0].text

with check("completions echo logprobs"):
    scored = client.completions.create(
        model=SCORED, prompt=["One two", [504, 260]], echo=True, logprobs=1, max_tokens=1
    )
    assert [c.index for c in scored.choices] == [0, 1]
    assert len(scored.choices[0].logprobs.token_logprobs) == len(scored.choices[0].logprobs.tokens)

with check("embeddings"):
    texts = ["A cat sleeps.", "A kitten naps.", "Interest rates rise."]
    first, near, far = (
        item.embedding for item in client.embeddings.create(model="embedding", input=texts).data
    )
    assert sum(a * b for a, b in zip(first, near, strict=True)) > sum(
        a * b for a, b in zip(first, far, strict=True)
    )
    assert len(client.embeddings.create(model="embedding", input="x", dimensions=64).data[0].embedding) == 64
    plain = client.embeddings.create(model="embedding", input=texts[0], encoding_format="float").data[0]
    assert max(abs(a - b) for a, b in zip(plain.embedding, first, strict=True)) < 1e-4

with check("responses"):
    response = client.responses.create(model=CHAT, input=COUNT, max_output_tokens=16, temperature=0)
    assert response.output_text and response.usage.output_tokens

with check("responses stream"):
    events = list(
        client.responses.create(model=CHAT, input=COUNT, max_output_tokens=16, temperature=0, stream=True)
    )
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == response.output_text == events[-1].response.output_text

with check("responses parse and tools"):
    shaped = client.responses.parse(model=CHAT, input="Name a city.", text_format=City, max_output_tokens=120)
    assert isinstance(shaped.output_parsed, City)
    tool = {"type": "function", **WEATHER["function"], "strict": False}
    used = client.responses.create(
        model=CHAT, input="Weather in Paris?", tools=[tool], tool_choice="required", parallel_tool_calls=False
    )
    assert used.output[0].type == "function_call" and json.loads(used.output[0].arguments)

with check("NotFoundError"):
    try:
        client.chat.completions.create(**{**asked, "model": "nothing"})
        raise AssertionError("no error")
    except NotFoundError as error:
        assert (error.code, error.param) == ("model_not_found", "model")

with check("BadRequestError"):
    try:
        client.chat.completions.create(**{**asked, "temperature": 9})
        raise AssertionError("no error")
    except BadRequestError as error:
        assert error.param == "temperature"

with check("AuthenticationError"):
    try:
        OpenAI(base_url=BASE, api_key="wrong").models.list()
        raise AssertionError("no error")
    except AuthenticationError as error:
        assert error.status_code == 401

finish()
