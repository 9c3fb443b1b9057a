"""Prompts of the MCP server: one for each engine, which asks the client's model to use the engine's tool.

Arguments of prompts are texts; an engine's prompt has the arguments of its tool. Pure.
"""

from __future__ import annotations

from typing import Any, get_args

from mcp.server.mcpserver.prompts.base import Prompt, PromptArgument, UserMessage

from conductor_mcp.tools.engine_tools import DECODING, ROUTING, EngineTool, input_type
from conductor_mcp.tools.generation import EMBED_TEXTS, existing
from handlers.engines.registry import engine_class

_CATEGORY = PromptArgument(name="category", description="The category that answers.", required=True)
_QUESTION = PromptArgument(name="prompt", description="The question or task.", required=True)
_PLAIN = {
    "conversational_chat": ("chat", "Chat", "Ask a local chat model"),
    "general_reasoning": ("reason", "Reason", "Have a local model reason about a question"),
}


def prompts() -> list[Prompt]:
    """All prompts; none of them needs a loaded model."""
    plain = [
        _prompt(name, title, f"{description}.", [_QUESTION], "generate_text", {"category": engine})
        for engine, (name, title, description) in _PLAIN.items()
    ]
    ask = _prompt(
        "ask", "Ask a category", "Ask the model of any category.", [_CATEGORY, _QUESTION], "generate_text", {}
    )
    texts = PromptArgument(name="texts", description="The texts, one per line.", required=True)
    embed = _prompt(EMBED_TEXTS, "Embed texts", "Turn texts into vectors.", [texts], EMBED_TEXTS, {})
    of_engines = []
    for tool in existing():
        arguments = [
            PromptArgument(name=name, description=field.description, required=field.is_required())
            for name, field in _fields(tool).items()
        ]
        of_engines.append(_prompt(tool.name, tool.title, tool.description, arguments, tool.name, {}))
    return [ask, *plain, *of_engines, embed]


def choices(prompt: str, argument: str) -> list[str]:
    """The allowed values of a prompt's argument, empty if any text is allowed."""
    tool = next((tool for tool in existing() if tool.name == prompt), None)
    fields = _fields(tool) if tool else {}
    return _literals(fields[argument].annotation) if argument in fields else []


def _fields(tool: EngineTool) -> dict[str, Any]:
    """The tool's arguments without decoding and routing, by the names that clients use."""
    fields = input_type(tool, engine_class(tool.engine).options_type).model_fields
    return {
        field.alias or name: field for name, field in fields.items() if name not in {**DECODING, **ROUTING}
    }


def _prompt(
    name: str, title: str, description: str, arguments: list[PromptArgument], tool: str, fixed: dict[str, str]
) -> Prompt:
    async def ask(**given: str) -> UserMessage:
        lines = "\n".join(f"{name}: {value}" for name, value in {**fixed, **given}.items() if value)
        return UserMessage(
            f"Use the tool `{tool}` with the arguments below, give me the text that it answers, and tell me "
            f"what its findings warn of.\n\n{lines}"
        )

    return Prompt(name=name, title=title, description=description, arguments=arguments, fn=ask)


def _literals(annotation: Any) -> list[str]:
    """The texts of a Literal type, alone or in a union."""
    parts = get_args(annotation)
    texts = [part for part in parts if isinstance(part, str)]
    return texts or [text for part in parts for text in _literals(part)]
