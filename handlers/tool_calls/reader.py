"""Reads one tool call from JSON that arrives in pieces.

The call has `name` and `arguments` (or `parameters`), in any order. Readers are generators that receive one
character at a time, and an empty string at the end of the text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from typing import TypeVar

BLANKS = frozenset(" \t\r\n")
ENDS_PLAIN = BLANKS | frozenset(",]}")
"""Characters that end a number, true, false or null."""

Found = TypeVar("Found")
Reading = Generator[None, str, Found]

ARGUMENTS = frozenset({"arguments", "parameters"})
ASIDE = frozenset({"id", "type"})
"""Members of a call that are ignored; with any other member the object is not a call."""


def nowhere(character: str) -> None:
    """Discards a character."""


class CharacterReader:
    """Reads characters with one character of look-ahead.

    `taken` has the characters read since it was cleared.
    """

    def __init__(self) -> None:
        self.taken: list[str] = []
        self._ahead: str | None = None

    def peek(self) -> Reading[str]:
        """The next character without taking it; empty at the end of the text."""
        if self._ahead is None:
            self._ahead = yield
        return self._ahead

    def take(self) -> Reading[str]:
        """Takes the next character; empty at the end of the text, also when called again."""
        character = yield from self.peek()
        if character:
            self.taken.append(character)
            self._ahead = None
        return character

    def blanks(self) -> Reading[None]:
        """Takes white space."""
        while (yield from self.peek()) in BLANKS:
            yield from self.take()

    def literal(self, text: str) -> Reading[bool]:
        """Takes `text`, or its longest prefix that is there; True if all of it was."""
        for character in text:
            if (yield from self.peek()) != character:
                return False
            yield from self.take()
        return True

    def until(self, ends: str) -> Reading[str]:
        """Takes everything before the first of the characters in `ends`."""
        found: list[str] = []
        while (yield from self.peek()) not in ends:
            found.append((yield from self.take()))
        return "".join(found)

    def longest(self, words: tuple[str, ...]) -> Reading[str]:
        """Takes the longest prefix of one of `words` that is there, perhaps nothing."""
        found = ""
        while (character := (yield from self.peek())) and any(
            word.startswith(found + character) for word in words
        ):
            found += yield from self.take()
        return found

    def string(self) -> Reading[str | None]:
        """Takes a JSON string and decodes it; None if there is none or it does not end."""
        if (yield from self.peek()) != '"':
            return None
        text: list[str] = []
        yield from self._quoted(text.append)
        try:
            value = json.loads("".join(text), strict=False)
        except json.JSONDecodeError:
            return None
        return str(value)

    def value(self, sink: Callable[[str], None] = nowhere) -> Reading[None]:
        """Takes a JSON value of any kind and gives its text to `sink`; stops at the end of the text."""
        character = yield from self.peek()
        if character == '"':
            yield from self._quoted(sink)
        elif character and character in "{[":
            depth = 0
            while character := (yield from self.peek()):
                if character == '"':
                    yield from self._quoted(sink)
                    continue
                depth += (character in "{[") - (character in "}]")
                sink((yield from self.take()))
                if depth == 0:
                    return
        else:
            while (character := (yield from self.peek())) and character not in ENDS_PLAIN:
                sink((yield from self.take()))

    def _quoted(self, sink: Callable[[str], None]) -> Reading[None]:
        sink((yield from self.take()))
        while character := (yield from self.take()):
            sink(character)
            if character == "\\":
                sink((yield from self.take()))
            elif character == '"':
                return


@dataclass(frozen=True, slots=True)
class CallStart:
    """The start of call number `index` (from 0); its arguments follow."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The next part of the JSON text of call `index`'s arguments."""

    index: int
    text: str


class CallReader:
    """Reads calls; emits a call as soon as its name is known and its arguments begin."""

    def __init__(
        self,
        reader: CharacterReader,
        names: Collection[str],
        emit: Callable[[CallStart | CallArguments], None],
    ) -> None:
        self._reader = reader
        self._names = frozenset(names)
        self._emit = emit
        self._count = 0

    def read(self, marked: bool) -> Reading[bool]:
        """Reads one object; True if it is a call. Otherwise its characters stay in `taken`."""
        if not (yield from self._reader.literal("{")):
            return False
        name, early = "", ""
        while (key := (yield from self._read_key())) is not None:
            if key in ARGUMENTS and name:
                yield from self.read_arguments(name)
                yield from self._read_comma()
                while (yield from self._read_key()) is not None:
                    yield from self._reader.value()
                    yield from self._read_comma()
                yield from self._reader.literal("}")
                return True
            if key in ARGUMENTS:
                early = yield from self._read_text_of_value()
            elif key == "name":
                name = (yield from self._reader.string()) or ""
            elif key in ASIDE:
                yield from self._reader.string()
            if not self._may_be(key, name, marked):
                return False
            yield from self._read_comma()
        return (yield from self._end_call(name, early, marked))

    def _may_be(self, key: str, name: str, marked: bool) -> bool:
        if key == "name":
            return name in self._names or (marked and name != "")
        return key in ARGUMENTS or key in ASIDE

    def _end_call(self, name: str, early: str, marked: bool) -> Reading[bool]:
        """Ends an object whose arguments come before its name, or that has none."""
        if not (yield from self._reader.literal("}")) or not name or not (marked or early):
            return False
        self._start(name)
        self._argue(_tidy(early))
        return True

    def read_arguments(self, name: str) -> Reading[None]:
        self._start(name)
        if (yield from self._reader.peek()) in {"{", "["}:
            yield from self._reader.value(self._argue)
        else:
            self._argue(_tidy((yield from self._read_text_of_value())))

    def _read_key(self) -> Reading[str | None]:
        yield from self._reader.blanks()
        key = yield from self._reader.string()
        yield from self._reader.blanks()
        if not key or not (yield from self._reader.literal(":")):
            return None
        yield from self._reader.blanks()
        return key

    def _read_comma(self) -> Reading[None]:
        yield from self._reader.blanks()
        yield from self._reader.literal(",")

    def _read_text_of_value(self) -> Reading[str]:
        text: list[str] = []
        yield from self._reader.value(text.append)
        return "".join(text)

    def _start(self, name: str) -> None:
        self._emit(CallStart(self._count, name))
        self._count += 1

    def _argue(self, text: str) -> None:
        self._emit(CallArguments(self._count - 1, text))


def _tidy(arguments: str) -> str:
    """Corrects arguments that are not an object: missing ones, or JSON inside a JSON string."""
    if arguments in {"", "null"}:
        return "{}"
    if not arguments.startswith('"'):
        return arguments
    try:
        return str(json.loads(arguments, strict=False))
    except json.JSONDecodeError:
        return arguments
