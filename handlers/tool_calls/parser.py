"""Finds tool calls in a model's text while it is generated.

Knows the formats that models were trained on: `<tool_call>{"name", "arguments"}</tool_call>` (Hermes, Qwen),
`{"name", "parameters"}` with or without `<|python_tag|>` (Llama), `[TOOL_CALLS]` before a list or before
`name[ARGS]{}` (Mistral), and JSON alone, as decoding with a schema writes it. Knows neither tools nor
protocols: the caller makes the ids of calls. The result does not depend on the cuts between pieces.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import groupby

from handlers.tool_calls.reader import CallArguments, CallReader, CallStart, CharacterReader, Reading

HERMES, HERMES_END, LLAMA, MISTRAL = "<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]"
MARKS = (HERMES, HERMES_END, LLAMA, MISTRAL)
MISTRAL_ARGUMENTS = "[ARGS]"
_WORDS = re.compile(r"[^\s<\[]+(?:[ \t\r\n]+[^\s<\[]+)*")
"""Text that cannot begin a call, which is most of an answer. Not possessive: before 3.11.5 Python matched one
blank too many (gh-106052). The classes exclude each other, so that it is linear all the same.

The character reader would take 3 us per character.
"""


@dataclass(frozen=True, slots=True)
class ParsedText:
    """Text of the answer outside its calls."""

    text: str


Event = ParsedText | CallStart | CallArguments


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """A whole call; `arguments` is JSON text, which is incomplete if the answer was cut off."""

    name: str
    arguments: str


def find_calls(text: str, names: Collection[str]) -> tuple[str, list[ParsedCall]]:
    """The text of a whole answer without its calls, and the calls in order; see `ToolCallParser`."""
    parser = ToolCallParser(names)
    events = [*parser.feed(text), *parser.close()]
    names_found = [event.name for event in events if isinstance(event, CallStart)]
    arguments: list[list[str]] = [[] for _ in names_found]
    for event in events:
        if isinstance(event, CallArguments):
            arguments[event.index].append(event.text)
    calls = [ParsedCall(name, "".join(texts)) for name, texts in zip(names_found, arguments, strict=True)]
    return "".join(event.text for event in events if isinstance(event, ParsedText)), calls


class ToolCallParser:
    """Parses one answer: feed its pieces, then close; both return the events that are certain.

    `names` are the available tools: JSON without a mark is a call only at the start of the answer and only if
    it names one of them. White space before a call and at the very end is dropped; a text without calls is
    returned unchanged.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._events: list[Event] = []
        self._ends_with_call = False
        self._is_between_words = False
        self._read = CharacterReader()
        self._calls = CallReader(self._read, names, self._events.append)
        self._answer = self._read_answer()
        next(self._answer)

    def feed(self, piece: str) -> list[Event]:
        """The events after the next piece."""
        at = 0
        while at < len(piece):
            if self._is_between_words and not self._read.taken and (words := _WORDS.match(piece, at)):
                self._say(words[0])
                at = words.end()
            else:
                self._answer.send(piece[at])
                at += 1
        return self._new_events()

    def close(self) -> list[Event]:
        """The remaining events at the end of the answer; nothing can be fed afterwards."""
        try:
            self._answer.send("")
        except StopIteration:
            return self._new_events()
        raise AssertionError("read past the end of the text")

    def _new_events(self) -> list[Event]:
        # Neighbouring events of one kind are joined; only one call is open at a time.
        joined: list[Event] = []
        for kind, group in groupby(self._events, type):
            if kind is CallStart:
                joined += group
                continue
            rest = [event for event in group if not isinstance(event, CallStart)]
            text = "".join(event.text for event in rest)
            joined.append(replace(rest[0], text=text))
        self._events.clear()
        return joined

    def _read_answer(self) -> Reading[None]:
        at_start = True
        while True:
            self._is_between_words = not at_start
            yield from self._read.blanks()
            if not (yield from self._read.peek()):
                break
            self._is_between_words = False
            if (yield from self._read_calls(at_start)):
                self._read.taken.clear()
                self._ends_with_call = True
            else:
                self._say_taken()
            at_start = False
        if not self._ends_with_call:
            self._say_taken()

    def _read_calls(self, at_start: bool) -> Reading[bool]:
        """Takes at least one character; True if everything that it took is calls."""
        mark = yield from self._read.longest(MARKS)
        if mark in MARKS:
            return (yield from self._read_marked(mark))
        if mark == "[" and at_start:
            return (yield from self._read_list(marked=False))
        if mark:
            return False
        if at_start and (yield from self._read.peek()) == "{":
            return (yield from self._read_series(marked=False))
        yield from self._read.take()
        return False

    def _read_marked(self, mark: str) -> Reading[bool]:
        if mark == HERMES_END:
            return self._ends_with_call
        yield from self._read.blanks()
        if mark == LLAMA:
            return (yield from self._read_series(marked=True))
        if mark == MISTRAL:
            return (yield from self._read_mistral())
        return (yield from self._calls.read(marked=True))

    def _read_mistral(self) -> Reading[bool]:
        character = yield from self._read.peek()
        if character == "{":
            return (yield from self._read_series(marked=True))
        if character == "[":
            yield from self._read.take()
            return (yield from self._read_list(marked=True))
        name = (yield from self._read.until("[{")).strip()
        yield from self._read.literal(MISTRAL_ARGUMENTS)
        if not name or (yield from self._read.peek()) != "{":
            return False
        yield from self._calls.read_arguments(name)
        return True

    def _read_series(self, marked: bool) -> Reading[bool]:
        """Reads consecutive objects: separated by commas in a list, by semicolons or nothing from Llama."""
        found = False
        while (yield from self._calls.read(marked)):
            found = True
            yield from self._read.blanks()
            yield from self._read.longest((";", ","))
            yield from self._read.blanks()
            self._read.taken.clear()
        if found:
            self._say_taken()  # an object that was not a call
        return found

    def _read_list(self, marked: bool) -> Reading[bool]:
        yield from self._read.blanks()
        found = yield from self._read_series(marked)
        if found:
            yield from self._read.literal("]")
        return found

    def _say_taken(self) -> None:
        if self._read.taken:
            self._say("".join(self._read.taken))
            self._read.taken.clear()

    def _say(self, text: str) -> None:
        self._events.append(ParsedText(text))
        self._ends_with_call = False
