"""Tools for models whose chat template knows none: told of in the system message, in the words of Hermes.

Calls and results of earlier turns become text of assistant and user, so that any template takes them.
`handlers.tool_calls` finds the calls that the model then writes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from handlers.tool_calls import HERMES, HERMES_END
from handlers.wire import Message, ToolCall

INSTRUCTIONS = """You may call functions to answer the user. The functions, each described as JSON:
<tools>
{tools}
</tools>
To call one, answer with nothing but JSON with its name and its arguments, once for each call:
<tool_call>
{{"name": "function_name", "arguments": {{"argument": "value"}}}}
</tool_call>
You get the result as <tool_response>. Answer in plain words when no function is needed."""


def in_words(messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None) -> list[Message]:
    """`messages` with every tool, call and result said in the text of system, assistant and user."""
    told = _results_joined([_in_words(message) for message in messages])
    if not tools:
        return told
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    instructions = INSTRUCTIONS.format(tools=listed)
    if told and told[0].role == "system":
        first, *rest = told
        return [Message(role="system", content=f"{first.content}\n\n{instructions}"), *rest]
    return [Message(role="system", content=instructions), *told]


def _in_words(message: Message) -> Message:
    if message.role == "tool":
        return Message(role="user", content=f"<tool_response>\n{message.content}\n</tool_response>")
    if not message.tool_calls:
        return message
    calls = [f"{HERMES}\n{_call(call)}\n{HERMES_END}" for call in message.tool_calls]
    return Message(role=message.role, content="\n".join([*filter(None, [message.content]), *calls]))


def _call(call: ToolCall) -> str:
    return f'{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": {call.arguments or "{}"}}}'


def _results_joined(messages: Sequence[Message]) -> list[Message]:
    """One user turn for the results of parallel calls: templates want user and assistant to alternate."""
    joined: list[Message] = []
    for message in messages:
        last = joined[-1] if joined else None
        if last is not None and last.role == message.role == "user" and _is_result(last):
            joined[-1] = Message(role="user", content=f"{last.content}\n{message.content}")
        else:
            joined.append(message)
    return joined


def _is_result(message: Message) -> bool:
    return message.content.startswith("<tool_response>\n")
