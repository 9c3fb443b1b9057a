"""Tool calls in the formats of models are found, however the text is cut."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.tool_calls.parser import Event, ParsedCall, ParsedText, ToolCallParser, find_calls
from handlers.tool_calls.reader import CallArguments, CallStart

NAMES = ("get_weather", "add")
WEATHER = ParsedCall("get_weather", '{"city": "Paris"}')
ADD = ParsedCall("add", '{"a": 1, "b": [2, {"c": "}]"}]}')


def written(call: ParsedCall, arguments: str = "arguments") -> str:
    return f'{{"name": "{call.name}", "{arguments}": {call.arguments}}}'


FORMS = {
    "hermes": f"<tool_call>\n{written(WEATHER)}\n</tool_call>\n<tool_call>\n{written(ADD)}\n</tool_call>",
    "hermes without its ends": f"<tool_call>{written(WEATHER)}<tool_call>{written(ADD)}",
    "llama": f"<|python_tag|>{written(WEATHER, 'parameters')}; {written(ADD, 'parameters')}",
    "llama without its mark": f"{written(WEATHER, 'parameters')}\n{written(ADD, 'parameters')}",
    "mistral": f"[TOOL_CALLS] [{written(WEATHER)}, {written(ADD)}]",
    "mistral since 2025": f"[TOOL_CALLS]get_weather[ARGS]{WEATHER.arguments}[TOOL_CALLS]add{ADD.arguments}",
    "a list alone": f" [{written(WEATHER)}, {written(ADD)}]\n",
    "members in another order": f'<tool_call>{{"arguments": {WEATHER.arguments}, "name": "get_weather"}}'
    f'</tool_call><tool_call>{{"id": "x", "type": "function", "name": "add", "arguments": {ADD.arguments},'
    ' "extra": {"more": 1}}</tool_call>',
    "arguments as a string": f'[{{"name": "get_weather", "arguments": {json.dumps(WEATHER.arguments)}}},'
    f" {written(ADD)}]",
}
PROSE = [
    "",
    "Paris is sunny.",
    "  two blanks before and after \n",
    "a < b, <b>bold</b>, <tool_cal",
    "[1, 2, 3]",
    '{"name": "Ada", "age": 36}',
    '{"name": "get_weather"}',
    '{"colour": "red"}',
    "[TOOL_CALLS] nothing",
    "<tool_call>not JSON</tool_call>",
    'I would write {"name": "get_weather", "arguments": {}} here.',
]


def in_pieces(pieces: list[str]) -> list[Event]:
    parser = ToolCallParser(NAMES)
    return [event for piece in pieces for event in parser.feed(piece)] + parser.close()


def joined(events: list[Event]) -> tuple[str, list[ParsedCall]]:
    calls = {event.index: ParsedCall(event.name, "") for event in events if isinstance(event, CallStart)}
    for event in events:
        if isinstance(event, CallArguments):
            calls[event.index] = ParsedCall(
                calls[event.index].name, calls[event.index].arguments + event.text
            )
    return "".join(e.text for e in events if isinstance(e, ParsedText)), [calls[i] for i in sorted(calls)]


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_two_calls_are_found_in_every_form(text: str) -> None:
    assert find_calls(text, NAMES) == ("", [WEATHER, ADD])


@pytest.mark.parametrize("text", PROSE)
def test_a_text_without_calls_comes_back_as_it_is(text: str) -> None:
    assert find_calls(text, NAMES) == (text, [])


def test_words_before_and_after_a_call_are_kept() -> None:
    text = f"Let me look.\n\n<tool_call>{written(WEATHER)}</tool_call>\n\nDone."
    assert find_calls(text, NAMES) == ("Let me look.\n\nDone.", [WEATHER])


def test_a_broken_call_is_text_and_the_next_one_a_call() -> None:
    text = f'<tool_call>{{"name": 1}}</tool_call>{FORMS["hermes"]}'
    said, calls = find_calls(text, NAMES)
    assert (said, calls) == ('<tool_call>{"name": 1}</tool_call>', [WEATHER, ADD])


def test_an_object_that_is_no_call_behind_one_that_is_stays_text() -> None:
    assert find_calls(f'{written(WEATHER)} {{"x": 1}}', NAMES) == ('{"x": 1}', [WEATHER])


def test_a_call_without_arguments_has_empty_ones() -> None:
    assert find_calls('<tool_call>{"name": "add"}</tool_call>', NAMES) == ("", [ParsedCall("add", "{}")])
    assert find_calls('{"name": "add", "parameters": null}', NAMES) == ("", [ParsedCall("add", "{}")])


def test_a_marked_call_of_an_unknown_tool_is_a_call() -> None:
    assert find_calls('<tool_call>{"name": "nap", "arguments": {}}</tool_call>', NAMES)[1] == [
        ParsedCall("nap", "{}")
    ]


def test_arguments_end_where_the_answer_was_cut() -> None:
    assert find_calls(f"<tool_call>{written(WEATHER)[:-6]}", NAMES)[1] == [
        ParsedCall("get_weather", WEATHER.arguments[:-5])
    ]


def test_the_name_comes_before_the_arguments_are_complete() -> None:
    parser = ToolCallParser(NAMES)
    assert parser.feed('<tool_call>{"name": "get_weather"') == []
    assert parser.feed(', "arguments": {"ci') == [CallStart(0, "get_weather"), CallArguments(0, '{"ci')]
    assert parser.feed('ty": "Paris"}') == [CallArguments(0, 'ty": "Paris"}')]
    assert parser.feed("}</tool_call>") == []


def test_text_is_not_held_back_longer_than_a_mark() -> None:
    parser = ToolCallParser(NAMES)
    assert parser.feed("It is <") == [ParsedText("It is")]
    assert parser.feed("b>bold") == [ParsedText(" <b>bold")]


@given(
    parts=st.lists(
        st.one_of(
            st.sampled_from([*FORMS.values(), *PROSE, "[ARGS]", "</tool_call>", '"', "\\", "é🎉"]),
            st.text(alphabet='{}[]<>",:\\ \nan', max_size=12),
        ),
        max_size=5,
    ),
    seed=st.integers(0, 2**32),
)
def test_however_a_text_is_cut_the_same_is_found(parts: list[str], seed: int) -> None:
    text = "".join(parts)
    chance = random.Random(seed)
    cuts = sorted(chance.choices(range(len(text) + 1), k=chance.randrange(12)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert joined(in_pieces(pieces)) == find_calls(text, NAMES)
