"""A model's chat template: messages and tools to the text that the model was trained on.

Knows jinja2 and what Hugging Face templates expect; no tokens. Text from outside goes through `mark`, which
makes control tokens in it recognisable, and nothing else does.
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

from handlers.tool_prompts import in_words
from handlers.wire import Message, RequestError, ToolCall

Mark = Callable[[str], str]
Tools = Sequence[dict[str, Any]]

ID_LETTERS = 9
"""Mistral's template takes ids of calls with nine letters and digits, and no others."""


class ChatTemplate:
    """The template of a model folder; a folder without one gets its messages joined by empty lines."""

    def __init__(self, folder: Path, config: Mapping[str, Any], specials: Mapping[str, str]) -> None:
        self.source = _source(folder, config) or ""
        self._template = _environment().from_string(self.source) if self.source else None
        self._specials = dict(specials)

    @property
    def knows_tools(self) -> bool:
        """Whether the model was trained to be told of tools by its template."""
        return "tools" in self.source

    def render(self, messages: Sequence[Message], tools: Tools | None, mark: Mark) -> str:
        """The conversation, ready for the assistant's turn.

        Raises RequestError 400 if the template refuses it, with the template's own words.
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
            merged = _without_system(turns)
            if merged is None:
                raise RequestError(
                    f"the model's chat template refuses this conversation: {error}",
                    code="unsupported_conversation",
                    param="messages",
                ) from error
            return self._render(merged, tools)


def _turn(message: Message, mark: Mark) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": mark(message.content)}
    if message.name is not None:
        turn["name"] = mark(message.name)
    if message.tool_calls:
        turn["tool_calls"] = [_call(call, mark) for call in message.tool_calls]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = _short_id(message.tool_call_id)
    return turn


def _call(call: ToolCall, mark: Mark) -> dict[str, Any]:
    try:
        arguments = _marked(json.loads(call.arguments), mark)
    except (ValueError, RecursionError):
        arguments = mark(call.arguments)
    function = {"name": mark(call.name), "arguments": arguments}
    return {"id": _short_id(call.id), "type": "function", "function": function}


def _short_id(given: str) -> str:
    return hashlib.sha256(given.encode()).hexdigest()[:ID_LETTERS]


def _marked(value: Any, mark: Mark) -> Any:
    """`value` with every text in it marked, names of members too."""
    if isinstance(value, str):
        return mark(value)
    if isinstance(value, dict):
        return {mark(name): _marked(member, mark) for name, member in value.items()}
    if isinstance(value, Sequence):
        return [_marked(member, mark) for member in value]
    return value


def _environment() -> ImmutableSandboxedEnvironment:
    # The settings and names that Hugging Face templates are written against.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> Never:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now(UTC).strftime(pattern)


def _source(folder: Path, config: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    source = config.get("chat_template")
    if isinstance(source, list):
        named = {entry["name"]: entry["template"] for entry in source}
        source = named.get("default")
    return source


def _without_system(turns: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The leading system message folded into the first turn, for templates that know no system role."""
    if len(turns) < 2 or turns[0]["role"] != "system":
        return None
    system, first, *rest = turns
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]
