"""langchain-openai: messages, streams, structured output, tools and embeddings."""

from __future__ import annotations

from checks import BASE, CHAT, KEY, check, finish
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sun in {city}"


model = ChatOpenAI(base_url=BASE, api_key=KEY, model=CHAT, temperature=0, max_tokens=120)
TEXTS = ["A cat sleeps.", "A kitten naps.", "Interest rates rise."]

with check("invoke"):
    said = model.invoke([("system", "Be brief."), ("user", "What is the capital of France?")])
    assert said.content and said.usage_metadata["output_tokens"]

with check("stream"):
    pieces = list(model.stream("What is the capital of France?", stream_usage=True))
    assert "".join(piece.content for piece in pieces)
    assert any(piece.usage_metadata for piece in pieces)

with check("batch"):
    assert len(model.batch(["Say one.", "Say two."])) == 2

for method in ("json_schema", "function_calling"):
    with check(f"with_structured_output {method}"):
        assert isinstance(model.with_structured_output(City, method=method).invoke("Name a city."), City)

with check("bind_tools"):
    called = model.bind_tools([get_weather], tool_choice="any", parallel_tool_calls=False)
    (call,) = called.invoke("What is the weather in Paris?").tool_calls
    assert call["args"].keys() == {"city"}
    whole = None
    for piece in called.stream("What is the weather in Paris?"):
        whole = piece if whole is None else whole + piece
    assert whole is not None and whole.tool_calls[0]["args"] == call["args"]

with check("responses api"):
    spoken = ChatOpenAI(base_url=BASE, api_key=KEY, model=CHAT, use_responses_api=True, max_tokens=24)
    assert spoken.invoke("Say hello.").text

with check("embeddings of texts"):
    texts = OpenAIEmbeddings(base_url=BASE, api_key=KEY, model="embedding", check_embedding_ctx_length=False)
    first, near, far = texts.embed_documents(TEXTS)
    assert sum(a * b for a, b in zip(first, near, strict=True)) > sum(
        a * b for a, b in zip(first, far, strict=True)
    )

finish()
