"""litellm: the SDK through which other gateways speak to this one."""

from __future__ import annotations

import json
from typing import Any

import litellm
from checks import BASE, CHAT, COUNT, KEY, check, finish

MODEL = f"openai/{CHAT}"
HELLO = [{"role": "user", "content": "What is the capital of France?"}]
asked: dict[str, Any] = {"model": MODEL, "api_base": BASE, "api_key": KEY, "messages": HELLO}
asked |= {"max_tokens": 24, "temperature": 0}
sure = {**asked, "messages": COUNT}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}

with check("completion"):
    answer = litellm.completion(**sure)
    assert answer.choices[0].message.content and answer.usage.completion_tokens

with check("completion stream"):
    pieces = litellm.completion(**sure, stream=True)
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == answer.choices[0].message.content

with check("tools required"):
    called = litellm.completion(**{**asked, "max_tokens": 80}, tools=[TOOL], tool_choice="required")
    assert json.loads(called.choices[0].message.tool_calls[0].function.arguments).keys() == {"city"}

with check("text_completion"):
    done = litellm.text_completion(
        model=f"text-completion-openai/{CHAT}", api_base=BASE, api_key=KEY, prompt="One, two,", max_tokens=8
    )
    assert done.choices[0].text

with check("embedding"):
    made = litellm.embedding(model="openai/embedding", api_base=BASE, api_key=KEY, input=["a", "b"])
    assert [len(item["embedding"]) for item in made.data] == [384, 384]

with check("NotFoundError"):
    try:
        litellm.completion(**{**asked, "model": "openai/nothing"})
        raise AssertionError("no error")
    except litellm.NotFoundError as error:
        assert error.status_code == 404

finish()
