"""Conversion of OpenAI's messages to the turns that engines and chat templates read.

Handles roles, content parts and tool calls; accepts text only. Every error names the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from conductor_admin.api.openai.bodies import Part
from handlers.wire import MAX_PROMPT_CHARS, Message, RequestError, Role, ToolCall

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_TEXTS = ("text", "input_text", "output_text", "refusal")
Text = Annotated[str, Field(max_length=MAX_PROMPT_CHARS)]


def _only_text(value: Any) -> Any:
    if isinstance(value, str) and value not in _TEXTS:
        raise ValueError(
            f"a part of type {value[:40]!r} is not supported: the models of this server read text only"
        )
    return value


class ContentPart(Part):
    """One part of a message's content."""

    type: Annotated[Literal["text", "input_text", "output_text", "refusal"], BeforeValidator(_only_text)]
    text: Text | None = None
    refusal: Text | None = None

    @property
    def said(self) -> str:
        return (self.refusal if self.type == "refusal" else self.text) or ""


def _parts(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


_PART = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {
        "type": {"enum": ["text", "input_text", "output_text"]},
        "text": {"type": "string", "maxLength": MAX_PROMPT_CHARS},
    },
}
Content = Annotated[
    list[ContentPart],
    BeforeValidator(_parts),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "maxLength": MAX_PROMPT_CHARS}, {"type": "array", "items": _PART}]}
    ),
]


def text_of(parts: Sequence[ContentPart]) -> str:
    """Text of a content: its parts joined by line ends."""
    return "\n".join(part.said for part in parts)


class CalledFunction(Part):
    """Name and arguments of a function that an assistant called."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    arguments: Text = ""


class CalledTool(Part):
    """A call in an assistant's turn."""

    id: Annotated[str, Field(max_length=200)]
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Part):
    """One turn; `function_call` and the role function are the older form of tools."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | None = None
    name: Annotated[str, Field(max_length=200)] | None = None
    tool_calls: Annotated[list[CalledTool], Field(max_length=128)] | None = None
    tool_call_id: Annotated[str, Field(max_length=200)] | None = None
    function_call: CalledFunction | None = None

    @property
    def calls(self) -> list[ToolCall]:
        new = [
            ToolCall(id=c.id, name=c.function.name, arguments=c.function.arguments)
            for c in self.tool_calls or ()
        ]
        old = self.function_call
        return new if old is None else [*new, ToolCall(id=old.name, name=old.name, arguments=old.arguments)]


def turns(messages: Sequence[ChatMessage]) -> list[Message]:
    """Convert the messages; RequestError 400 names one that lacks a field that its role needs."""
    return [_turn(number, message) for number, message in enumerate(messages)]


def _turn(number: int, message: ChatMessage) -> Message:
    calls = message.calls if message.role == "assistant" else []
    if message.content is None and not calls:
        raise _lacks(number, "content")
    if message.role == "tool" and message.tool_call_id is None:
        raise _lacks(number, "tool_call_id")
    return Message(
        role=ROLES[message.role],
        content=text_of(message.content or ()),
        name=message.name,
        tool_calls=calls or None,
        tool_call_id=message.tool_call_id,
    )


def _lacks(number: int, field: str) -> RequestError:
    return RequestError(
        f"messages.{number} has no {field}", code="invalid_value", param=f"messages.{number}.{field}"
    )
