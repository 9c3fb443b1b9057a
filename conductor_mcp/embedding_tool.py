"""The tool `embed_texts`: a vector for each text, which is no answer to read but one to compute with."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from conductor_admin.gateway import Gateway
from conductor_mcp.generating import GENERATES, Usage, category_of, generate
from conductor_mcp.tool import Call, ToolInput, make_tool
from handlers.engines.embedding import MOST_INPUTS
from handlers.wire import GenerateInput, Shape

EMBED_TEXTS = "embed_texts"
EMBEDDING = "embedding"


class EmbedInput(ToolInput):
    """The texts to embed."""

    texts: Annotated[
        list[Annotated[str, Field(max_length=1_000_000)]],
        Field(min_length=1, max_length=MOST_INPUTS, description="The texts, each of which gets a vector."),
    ]
    category: Annotated[
        str | None, Field(max_length=200, description="A row of SETTINGS.md whose engine is embedding.")
    ] = None


class Embeddings(Shape):
    """Vectors in the order of the texts; `truncated` are the indices of texts that were cut."""

    category: str
    model: str
    embeddings: list[list[float]]
    dimensions: int
    truncated: list[int]
    warnings: list[str]
    usage: Usage


def embed_texts(gateway: Gateway) -> Tool:
    """The tool over `gateway`."""

    async def act(call: Call[EmbedInput]) -> Embeddings:
        asked = call.arguments
        category = asked.category or category_of(gateway.catalogue, EMBEDDING, call.origin.caller)
        body = GenerateInput(prompt=EMBED_TEXTS, category=category, options={"inputs": asked.texts})
        answer = await generate(gateway, body, call)
        found = {"category": answer.category, "model": answer.model, "usage": answer.usage}
        return Embeddings.model_validate({**answer.findings, **found})

    return make_tool(
        EMBED_TEXTS,
        act,
        title="Embed texts",
        description="Turn texts into vectors whose nearness is nearness of meaning.",
        takes=EmbedInput,
        gives=Embeddings,
        annotations=GENERATES,
    )
