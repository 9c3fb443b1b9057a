"""pydantic-ai: an agent with typed output, one that streams, and one on the responses interface."""

from __future__ import annotations

import asyncio

from checks import BASE, CHAT, KEY, check, finish
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


provider = OpenAIProvider(base_url=BASE, api_key=KEY)
model = OpenAIChatModel(CHAT, provider=provider)
settings = {"temperature": 0.0, "max_tokens": 120}


async def main() -> None:
    with check("run"):
        result = await Agent(model, model_settings=settings).run("What is the capital of France?")
        assert result.output
    with check("run_stream"):
        async with Agent(model, model_settings=settings).run_stream("Count to five.") as stream:
            assert [piece async for piece in stream.stream_text(delta=True)]
    with check("tool output"):
        agent = Agent(model, output_type=ToolOutput(City), model_settings=settings)
        assert isinstance((await agent.run("Name a city.")).output, City)
    with check("native output"):
        agent = Agent(model, output_type=NativeOutput(City), model_settings=settings)
        assert isinstance((await agent.run("Name a city.")).output, City)
    with check("responses model"):
        spoken = OpenAIResponsesModel(CHAT, provider=provider)
        assert (await Agent(spoken, model_settings=settings).run("Say hello.")).output


asyncio.run(main())
finish()
