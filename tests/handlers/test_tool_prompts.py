"""Tools are described to a model by its own chat template, or as text if that does not support them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from handlers.inference.chat_template import ChatTemplate, in_words
from handlers.tool_calls.parser import ParsedCall, find_calls
from handlers.wire import Message, RequestError, ToolCall

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
]
TALK = [
    Message(role="system", content="Be brief."),
    Message(role="user", content="What is 1+1 and 2+2?"),
    Message(
        role="assistant",
        content="",
        tool_calls=[
            ToolCall(id="call_1", name="add", arguments='{"a": 1, "b": 1}'),
            ToolCall(id="call_2", name="add", arguments='{"a": 2, "b": 2}'),
        ],
    ),
    Message(role="tool", content="2", tool_call_id="call_1", name="add"),
    Message(role="tool", content="4", tool_call_id="call_2"),
]
KNOWS_TOOLS = """{% for tool in tools or [] %}[{{ tool | tojson }}]{% endfor %}
{%- for m in messages %}<{{ m.role }}>{{ m.content }}
{%- for call in m.tool_calls or [] %}({{ call.id|length }} {{ call.function.name }}
 {{- call.function.arguments.a }}){% endfor %}
{%- if m.tool_call_id %}#{{ m.tool_call_id == ids[loop.index0] }}{% endif %}{% endfor %}"""
PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


def template(tmp_path: Path, source: str) -> ChatTemplate:
    (tmp_path / "chat_template.jinja").write_text(source, encoding="utf-8")
    return ChatTemplate(tmp_path, {}, {})


def unmarked(text: str) -> str:
    return text


def test_a_template_that_knows_tools_gets_them_as_it_expects(tmp_path: Path) -> None:
    source = KNOWS_TOOLS.replace("#{{ m.tool_call_id == ids[loop.index0] }}", "#{{ m.tool_call_id|length }}")
    text = template(tmp_path, source).render(TALK, TOOLS, unmarked)
    assert text.startswith('[{"type": "function", "function": {"name": "add"')
    assert "<assistant>(9 add1)(9 add2)" in text
    assert text.endswith("<tool>2#9<tool>4#9")


def test_every_text_from_outside_is_marked(tmp_path: Path) -> None:
    text = template(tmp_path, KNOWS_TOOLS.replace("ids[loop.index0]", "0")).render(
        TALK, TOOLS, lambda text: text.replace("add", "ADD")
    )
    assert "add" not in text
    assert text.count("ADD") == 3


def test_a_template_without_tools_is_told_in_words(tmp_path: Path) -> None:
    text = template(tmp_path, PLAIN).render(TALK, TOOLS, unmarked)
    assert text.startswith("<system>Be brief.\n\nYou may call functions")
    assert '<tools>\n{"type": "function", "function": {"name": "add"' in text
    results = "<tool_response>\n2\n</tool_response>\n<tool_response>\n4\n</tool_response>"
    assert text.endswith(f"<user>{results}")


def test_calls_told_in_words_are_found_again() -> None:
    (call,) = [message for message in in_words(TALK, TOOLS) if message.role == "assistant"]
    assert find_calls(call.content, ["add"]) == (
        "",
        [ParsedCall("add", '{"a": 1, "b": 1}'), ParsedCall("add", '{"a": 2, "b": 2}')],
    )


def test_without_a_system_message_the_instructions_are_one() -> None:
    first, second = in_words([Message(role="user", content="Hi")], TOOLS)
    assert (first.role, second.content) == ("system", "Hi")


def test_a_conversation_without_tools_stays_as_it_is() -> None:
    assert in_words(TALK[:2], None) == TALK[:2]


def test_a_template_that_refuses_says_why(tmp_path: Path) -> None:
    refusing = template(tmp_path, "{{ raise_exception('no tools here') }}")
    with pytest.raises(RequestError, match="no tools here") as refused:
        refusing.render(TALK[1:2], None, unmarked)
    assert refused.value.param == "messages"
