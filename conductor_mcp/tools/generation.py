"""Tools that generate: `generate_text` for any category, one for each engine, and `embed_texts`.

The vectors of `embed_texts` are for computations, not for reading.
"""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult
from pydantic import Field, create_model

from conductor_admin.api.schemas import Generated, Tokens
from conductor_admin.gateway import Gateway
from conductor_mcp.tools.base import ToolInput, ToolInvocation, make_tool
from conductor_mcp.tools.engine_tools import DECODING, ENGINE_TOOLS, ROUTING, EngineTool, body_of, input_type
from conductor_mcp.tools.generating import (
    GENERATES,
    category_of,
    generate,
    with_picture,
)
from handlers.engines.embedding import MOST_INPUTS
from handlers.engines.registry import engine_class, engine_names
from handlers.strict_json import parse
from handlers.wire import GenerateBody, GenerateInput, RequestError, Shape

EMBED_TEXTS = "embed_texts"
EMBEDDING = "embedding"

_FIELDS = {
    "prompt": "Text for the model; give either prompt or messages, not both.",
    "messages": "A conversation; its last message is the one to answer.",
    **ROUTING,
    **DECODING,
    "options": "Options of the category's engine, as {name: value}.",
    "persona": "Name of a persona of SETTINGS.md for the model to adopt.",
    "session": "true starts a stored conversation; the answer has its session_id.",
    "top_k": "Sample only from this many of the most likely tokens.",
    "repetition_penalty": "Values above 1 make repetition less likely.",
    "json_schema": "JSON Schema that the answer must match.",
    "keep_alive": "Seconds to keep the model loaded after this request; -1 keeps it loaded.",
}


class EmbedInput(ToolInput):
    """The texts to embed."""

    texts: Annotated[
        list[Annotated[str, Field(max_length=1_000_000)]],
        Field(min_length=1, max_length=MOST_INPUTS, description="The texts to embed, one vector for each."),
    ]
    category: Annotated[
        str | None,
        Field(max_length=200, description="Slug of a row of SETTINGS.md whose engine is embedding."),
    ] = None


class TextEmbeddings(Shape):
    """Vectors in the order of the texts; `truncated` are the indices of texts that were cut."""

    category: str
    model: str
    embeddings: list[list[float]]
    dimensions: int
    truncated: list[int]
    warnings: list[str]
    usage: Tokens


def embed_texts(gateway: Gateway) -> Tool:
    """The tool `embed_texts` of `gateway`."""

    async def act(call: ToolInvocation[EmbedInput]) -> TextEmbeddings:
        asked = call.arguments
        category = asked.category or category_of(gateway.catalogue, EMBEDDING, call.origin.caller)
        body = GenerateInput(prompt=EMBED_TEXTS, category=category, options={"inputs": asked.texts})
        answer = await generate(gateway, body, call)
        found = {"category": answer.category, "model": answer.model, "usage": answer.usage}
        return TextEmbeddings.model_validate({**answer.findings, **found})

    return make_tool(
        EMBED_TEXTS,
        act,
        title="Embed texts",
        description="Turn texts into vectors; similar meanings give vectors that are close to each other.",
        takes=EmbedInput,
        gives=TextEmbeddings,
        annotations=GENERATES,
    )


def generation_tools(gateway: Gateway) -> list[Tool]:
    """`generate_text`, `embed_texts`, and the tools of all engines, used by a row or not."""
    tools = [_engine_tool(gateway, one) for one in existing()]
    return [_generate_text(gateway), *tools, embed_texts(gateway)]


def existing() -> tuple[EngineTool, ...]:
    """The tools whose engine exists in `handlers.engines`."""
    return tuple(tool for tool in ENGINE_TOOLS if tool.engine in engine_names())


def needed_engine(name: str) -> str | None:
    """The engine that the tool `name` needs, None if it needs no special one."""
    return (
        EMBEDDING if name == EMBED_TEXTS else next((t.engine for t in ENGINE_TOOLS if t.name == name), None)
    )


def _generate_text(gateway: Gateway) -> Tool:
    async def act(call: ToolInvocation[ToolInput]) -> Generated:
        given = call.arguments.model_dump(exclude_unset=True, exclude_none=True)
        if ("prompt" in given) == ("messages" in given):
            raise RequestError("give either prompt or messages, not both", code="invalid_value")
        return await generate(gateway, parse(GenerateBody, given), call)

    fields: dict[str, Any] = {}
    for name, words in _FIELDS.items():
        source = GenerateBody.model_fields[name]
        fields[name] = (
            source.annotation,
            Field(default=source.get_default(call_default_factory=True), description=words),
        )
    return make_tool(
        "generate_text",
        act,
        title="Generate text",
        description="Generate text with the model of any category. The default is a chat model.",
        takes=create_model("GenerateTextInput", __base__=ToolInput, **fields),
        gives=Generated,
        annotations=GENERATES,
    )


def _engine_tool(gateway: Gateway, tool: EngineTool) -> Tool:
    async def act(call: ToolInvocation[ToolInput]) -> Generated | CallToolResult:
        asked = getattr(call.arguments, "category", None)
        category = asked or category_of(gateway.catalogue, tool.engine, call.origin.caller)
        return with_picture(await generate(gateway, body_of(tool, category, call.arguments), call))

    return make_tool(
        tool.name,
        act,
        title=tool.title,
        description=tool.description,
        takes=input_type(tool, engine_class(tool.engine).options_type),
        gives=Generated,
        annotations=GENERATES,
    )
