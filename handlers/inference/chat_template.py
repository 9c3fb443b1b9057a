"""A model's chat template: renders messages and tools as the text form that the model was trained on.

Knows jinja2 and the conventions of Hugging Face templates; no tokens. Only text from outside goes through
`mark`, which marks control tokens in it. If a template does not support tools, the system message describes
them in the format of Hermes, and calls and results of earlier turns become text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Never

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from handlers.tool_calls.parser import HERMES, HERMES_END
from handlers.wire import Message, RequestError, ToolCall

INSTRUCTIONS = """You may call functions to answer the user. The functions, each described as JSON:
<tools>
{tools}
</tools>
To call one, answer with nothing but JSON with its name and its arguments, once for each call:
<tool_call>
{{"name": "function_name", "arguments": {{"argument": "value"}}}}
</tool_call>
You get the result as <tool_response>. Answer in plain words when no function is needed."""

Mark = Callable[[str], str]
Tools = Sequence[dict[str, Any]]

ID_LETTERS = 9
"""Length of call ids: Mistral's template accepts only ids of nine letters and digits."""


def in_words(messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None) -> list[Message]:
    """`messages` with all tools, calls and results written as text of system, assistant and user messages."""
    shown = _results_joined([_in_words(message) for message in messages])
    if not tools:
        return shown
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    instructions = INSTRUCTIONS.format(tools=listed)
    if shown and shown[0].role == "system":
        first, *rest = shown
        return [Message(role="system", content=f"{first.content}\n\n{instructions}"), *rest]
    return [Message(role="system", content=instructions), *shown]


def _in_words(message: Message) -> Message:
    if message.role == "tool":
        return Message(role="user", content=f"<tool_response>\n{message.content}\n</tool_response>")
    if not message.tool_calls:
        return message
    calls = [f"{HERMES}\n{_hermes_call(call)}\n{HERMES_END}" for call in message.tool_calls]
    return Message(role=message.role, content="\n".join([*filter(None, [message.content]), *calls]))


def _hermes_call(call: ToolCall) -> str:
    return f'{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {call.arguments or "{}"}}}'


def _results_joined(messages: Sequence[Message]) -> list[Message]:
    """Joins results of parallel calls into one user turn: in templates user and assistant must alternate."""
    joined: list[Message] = []
    for message in messages:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.role == message.role == "user"
            and last.content.startswith("<tool_response>\n")
        ):
            joined[-1] = Message(role="user", content=f"{last.content}\n{message.content}")
        else:
            joined.append(message)
    return joined


class ChatTemplate:
    """The template of a model folder; without one, messages are joined by empty lines."""

    def __init__(self, folder: Path, config: Mapping[str, Any], specials: Mapping[str, str]) -> None:
        file, source = folder / "chat_template.jinja", config.get("chat_template")
        if file.exists():
            source = file.read_text(encoding="utf-8")
        elif isinstance(source, list):
            source = {entry["name"]: entry["template"] for entry in source}.get("default")
        self.source: str = source or ""
        # The settings and names that Hugging Face templates expect.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        self._template = environment.from_string(self.source) if self.source else None
        self._specials = dict(specials)

    @property
    def knows_tools(self) -> bool:
        """True if the template itself renders tools."""
        return "tools" in self.source

    def render(self, messages: Sequence[Message], tools: Tools | None, mark: Mark) -> str:
        """The conversation, ready for the assistant's turn.

        Raises RequestError 400 with the template's own message if the template refuses it.
        """
        if not self.knows_tools:
            messages, tools = in_words(messages, tools), None
        return self._render([_turn(message, mark) for message in messages], _marked(tools, mark))

    def _render(self, turns: list[dict[str, Any]], tools: Any) -> str:
        if self._template is None:
            return "\n\n".join(turn["content"] for turn in turns)
        try:
            return self._template.render(
                messages=turns, add_generation_prompt=True, tools=tools, documents=None, **self._specials
            )
        except (jinja2.TemplateError, TypeError, RecursionError) as error:
            if len(turns) < 2 or turns[0]["role"] != "system":
                raise RequestError(
                    f"the model's chat template rejects this conversation: {error}",
                    code="unsupported_conversation",
                    param="messages",
                ) from error
            # A template without a system role: the leading system message moves into the first turn.
            system, first, *rest = turns
            merged = {**first, "content": f"{system['content']}\n\n{first['content']}"}
            return self._render([merged, *rest], tools)


def _turn(message: Message, mark: Mark) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": mark(message.content)}
    if message.name is not None:
        turn["name"] = mark(message.name)
    if message.tool_calls:
        turn["tool_calls"] = [_template_call(call, mark) for call in message.tool_calls]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = _short_id(message.tool_call_id)
    return turn


def _template_call(call: ToolCall, mark: Mark) -> dict[str, Any]:
    try:
        arguments = _marked(json.loads(call.arguments), mark)
    except (ValueError, RecursionError):
        arguments = mark(call.arguments)
    function = {"name": mark(call.name), "arguments": arguments}
    return {"id": _short_id(call.id), "type": "function", "function": function}


def _short_id(given: str) -> str:
    return hashlib.sha256(given.encode()).hexdigest()[:ID_LETTERS]


def _marked(value: Any, mark: Mark) -> Any:
    """`value` with every string in it marked, including names of members."""
    if isinstance(value, str):
        return mark(value)
    if isinstance(value, dict):
        return {mark(name): _marked(member, mark) for name, member in value.items()}
    if isinstance(value, Sequence):
        return [_marked(member, mark) for member in value]
    return value


def _tojson(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> Never:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now(UTC).strftime(pattern)
