"""The body of `POST /v1/responses`, and its items as the turns of a conversation.

Knows the stateless part of the interface: nothing is kept between two responses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from conductor_admin.api.openai.bodies import Decoding, JsonSchemaFormat, Part, ResponseFormat
from conductor_admin.api.openai.messages import ROLES, Content, text_of
from conductor_admin.api.openai.tools import MAX_TOOLS, Function, Name, Offer, ToolChoice, offer
from handlers.wire import MAX_PROMPT_CHARS, MAX_TOKENS_CEILING, WHOLE, Message, RequestError, ToolCall

Text = Annotated[str, Field(max_length=MAX_PROMPT_CHARS)]
_KINDS = ("message", "function_call", "function_call_output", "reasoning")


def _known_kind(value: Any) -> Any:
    if isinstance(value, str) and value not in _KINDS:
        raise ValueError(f"items of type {value[:40]!r} are not supported here")
    return value


class Item(Part):
    """One item of the input; without a type it is a message."""

    type: Annotated[
        Literal["message", "function_call", "function_call_output", "reasoning"], BeforeValidator(_known_kind)
    ] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Content | None = None
    call_id: Annotated[str, Field(max_length=200)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    arguments: Text | None = None
    output: Content | None = None


def _items(value: Any) -> Any:
    return [{"type": "message", "role": "user", "content": value}] if isinstance(value, str) else value


_ITEM_SCHEMA = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "type": {"const": "message"},
        "role": {"enum": ["system", "developer", "user", "assistant"]},
        "content": {"type": "string", "maxLength": MAX_PROMPT_CHARS},
    },
}
Input = Annotated[
    list[Item],
    Field(min_length=1, max_length=10_000),
    BeforeValidator(_items),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": MAX_PROMPT_CHARS},
                {"type": "array", "items": _ITEM_SCHEMA, "minItems": 1, "maxItems": 10_000},
            ]
        }
    ),
]


class TextFormat(JsonSchemaFormat):
    """`text.format`: the fields of chat's response format, without nesting."""

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(min_length=1, max_length=200)] = "answer"

    @property
    def as_response_format(self) -> ResponseFormat:
        return ResponseFormat.model_construct(type=self.type, json_schema=self)


class TextConfig(Part):
    """Form of the answer's text."""

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class ResponseTool(Part):
    """A tool: the fields that chat nests in `function`, without nesting."""

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @property
    def function(self) -> Function:
        return Function(**self.model_dump(exclude={"type"}))


class ResponsesBody(Decoding):
    """Body of `/v1/responses`."""

    refused: ClassVar[dict[str, tuple[Any, ...]]] = {
        "background": (False,),
        "conversation": (),
        "modalities": (["text"],),
        "n": (1,),
        "previous_response_id": (),
        "prompt": (),
        "reasoning": ({}, {"effort": None}, {"effort": "none"}),
        "truncation": ("disabled",),
    }
    harmless: ClassVar[frozenset[str]] = frozenset(
        {"metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier"}
    )

    input: Input
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS_CEILING), WHOLE] | None = None
    text: TextConfig | None = None
    tools: Annotated[list[ResponseTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    store: bool | None = None
    stream: bool | None = None

    @property
    def ignored(self) -> list[str]:
        """Names of fields that have no effect, `store` among them: responses are not stored."""
        return sorted([*super().ignored, *(["store"] if self.store else [])])

    @property
    def offer(self) -> Offer:
        return offer([tool.function for tool in self.tools or ()], self.tool_choice, self.parallel_tool_calls)

    @property
    def schema_of_answer(self) -> dict[str, Any] | None:
        form = self.text.format if self.text else None
        return form.as_response_format.schema_of_answer if form else self.json_schema

    @property
    def asked(self) -> str:
        """The last thing that the user says."""
        said = (text_of(item.content or ()) for item in reversed(self.input) if item.role == "user")
        return next(said, "")


def turns(body: ResponsesBody) -> list[Message]:
    """Instructions and items as a conversation; calls that follow each other are one turn."""
    found = [] if body.instructions is None else [Message(role="system", content=body.instructions)]
    for number, item in enumerate(body.input):
        if item.type == "function_call":
            _add_call(found, number, item)
        elif item.type != "reasoning":
            found.append(_turn(number, item))
    if not any(turn.role != "system" for turn in found):
        raise RequestError("input has no message to answer", code="invalid_value", param="input")
    return found


def _turn(number: int, item: Item) -> Message:
    if item.type == "function_call_output":
        _need(number, item, ("call_id", "output"))
        return Message(role="tool", content=text_of(item.output or ()), tool_call_id=item.call_id)
    _need(number, item, ("role", "content"))
    return Message(role=ROLES[str(item.role)], content=text_of(item.content or ()))


def _add_call(found: list[Message], number: int, item: Item) -> None:
    _need(number, item, ("call_id", "name", "arguments"))
    call = ToolCall(id=str(item.call_id), name=str(item.name), arguments=str(item.arguments))
    last = found[-1] if found else None
    if last is not None and last.role == "assistant":
        if last.tool_calls is None:
            found[-1] = last.model_copy(update={"tool_calls": [call]})
        else:
            # In place, since the turn was made here: copies of ten thousand calls would take seconds.
            last.tool_calls.append(call)
    else:
        found.append(Message(role="assistant", content="", tool_calls=[call]))


def _need(number: int, item: Item, fields: Sequence[str]) -> None:
    for field in fields:
        if getattr(item, field) is None:
            place = f"input.{number}.{field}"
            raise RequestError(f"{place} is missing", code="invalid_value", param=place)
