"""Tools that a client offers, the choice among them, and the JSON schema that enforces the choice.

Knows OpenAI's shapes and JSON schemas; `handlers.tool_calls.parser` finds the calls in a text.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from conductor_admin.api.openai.bodies import Part
from handlers.wire import RequestError

MAX_CALLS = 8
MAX_TOOLS = 128
Mode = Literal["auto", "none", "required", "named"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
_REFERENCE = "$ref"


class Function(Part):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Part):
    """A tool; functions are the only ones."""

    type: Literal["function"]
    function: Function


@dataclass(frozen=True, slots=True)
class ChosenTool:
    """Tool choice of a request; `name` is the function that the answer must call."""

    mode: Mode
    name: str | None = None

    @property
    def is_forced(self) -> bool:
        return self.mode in ("required", "named")


def _choice(value: Any) -> ChosenTool | None:
    if value is None or isinstance(value, ChosenTool):
        return value
    if value in ("auto", "none", "required"):
        return ChosenTool(value)
    inner = value.get("function", value) if isinstance(value, dict) else None
    name = inner.get("name") if isinstance(inner, dict) else None
    if not isinstance(name, str) or value.get("type") != "function":
        raise ValueError('must be "auto", "none", "required" or {"type": "function", "function": {"name"}}')
    return ChosenTool("named", name)


_FUNCTION_NAME = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
ToolChoice = Annotated[
    ChosenTool | None,
    PlainValidator(_choice),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["auto", "none", "required"]},
                {
                    "type": "object",
                    "required": ["type", "function"],
                    "properties": {"type": {"const": "function"}, "function": _FUNCTION_NAME},
                },
                {"type": "null"},
            ]
        }
    ),
]


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools of one request; `several` says that an answer may have more than one call."""

    functions: tuple[Function, ...] = ()
    choice: ChosenTool = ChosenTool("none")
    several: bool = True

    @property
    def names(self) -> frozenset[str]:
        """Names of the functions that the answer may call."""
        return frozenset(f.name for f in self.functions) if self.choice.mode != "none" else frozenset()

    @property
    def definitions(self) -> list[dict[str, Any]] | None:
        """The tools in the form that chat templates take, None if there are none."""
        if not self.names:
            return None
        return [{"type": "function", "function": f.model_dump(exclude_none=True)} for f in self.functions]

    def schema(self, answer: dict[str, Any] | None) -> dict[str, Any] | None:
        """JSON schema that restricts the text to tool calls, to the schema `answer`, or to either.

        None for free text.
        """
        if self.choice.mode == "none" or (self.choice.mode == "auto" and answer is None):
            return answer
        chosen = [f for f in self.functions if self.choice.name in (None, f.name)]
        schema = _Schema()
        calls = [schema.call(function) for function in chosen]
        either = [calls[0] if len(calls) == 1 else {"anyOf": calls}]
        if self.several and self.choice.mode != "named":
            either = [{"type": "array", "items": either[0], "minItems": 1, "maxItems": MAX_CALLS}]
        if answer is not None and not self.choice.is_forced:
            either.insert(0, schema.moved(answer))
        return schema.whole(either[0] if len(either) == 1 else {"anyOf": either})


def offer(functions: Sequence[Function], choice: ChosenTool | None, several: bool | None) -> Offer:
    """The tools of a request; RequestError 400 for a choice that its tools do not allow."""
    names = [function.name for function in functions]
    if len(set(names)) < len(names):
        raise RequestError("two tools have the same name", code="invalid_value", param="tools")
    chosen = choice or ChosenTool("auto" if functions else "none")
    if chosen.is_forced and not functions:
        raise RequestError("tool_choice requires tools", code="invalid_value", param="tool_choice")
    if chosen.mode == "named" and chosen.name not in names:
        raise RequestError(
            f"tool_choice does not name a tool of this request; its tools: {', '.join(names)}",
            code="invalid_value",
            param="tool_choice",
        )
    return Offer(tuple(functions), chosen, several is not False)


def call_id() -> str:
    """A new id for a call."""
    return f"call_{uuid.uuid4().hex[:24]}"


class _Schema:
    """Builds one schema of several; their definitions move to its root under unique names."""

    def __init__(self) -> None:
        self._definitions: dict[str, Any] = {}
        self._moved = 0

    def call(self, function: Function) -> dict[str, Any]:
        """The schema of a call of `function`."""
        arguments = {"type": "object", **(function.parameters or {"properties": {}})}
        return {
            "type": "object",
            "properties": {"name": {"const": function.name}, "arguments": self.moved(arguments)},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }

    def moved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Make `schema` a part of this one: move its definitions to the root, rename its references."""
        self._moved += 1
        prefix, rest = f"part{self._moved}_", dict(schema)
        own = {**rest.pop("definitions", {}), **rest.pop("$defs", {})}
        rest.pop("$schema", None)
        self._definitions |= {f"{prefix}{name}": _renamed(value, prefix) for name, value in own.items()}
        return dict(_renamed(rest, prefix))

    def whole(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {**schema, "$defs": self._definitions} if self._definitions else schema


def _renamed(schema: Any, prefix: str) -> Any:
    """`schema` with its references to definitions renamed."""
    if isinstance(schema, list):
        return [_renamed(item, prefix) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {name: _renamed(value, prefix) for name, value in schema.items()}
    target = schema.get(_REFERENCE)
    if isinstance(target, str):
        changed[_REFERENCE] = _new_place(target, prefix)
    return changed


def _new_place(reference: str, prefix: str) -> str:
    for place in ("#/$defs/", "#/definitions/"):
        if reference.startswith(place):
            return f"#/$defs/{prefix}{reference.removeprefix(place)}"
    raise RequestError(
        "a schema that is combined with others may only refer to its own $defs",
        code="invalid_value",
        param="tools",
    )
