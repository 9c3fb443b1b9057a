"""Reads a text that comes in pieces as if it were all there: characters, JSON strings and JSON values.

Readers are generators that are resumed with one character at a time, and with an empty one at the end of the
text. Knows nothing of what the text means.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import TypeVar

BLANKS = frozenset(" \t\r\n")
ENDS_PLAIN = BLANKS | frozenset(",]}")
"""What a number, true, false or null ends at."""

Found = TypeVar("Found")
Reading = Generator[None, str, Found]


def nowhere(character: str) -> None:
    """Where characters go that nobody needs."""


class CharacterReader:
    """One character of foresight; `taken` holds what was read, until its owner clears it."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self._ahead: str | None = None

    def peek(self) -> Reading[str]:
        """The next character, left in place; empty at the end of the text."""
        if self._ahead is None:
            self._ahead = yield
        return self._ahead

    def take(self) -> Reading[str]:
        """The next character; at the end of the text it is empty for ever."""
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
        """Takes `text`, or as much of it as is there; whether it was all."""
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
        """Takes the longest beginning of one of `words` that is there, perhaps nothing."""
        found = ""
        while (character := (yield from self.peek())) and any(
            word.startswith(found + character) for word in words
        ):
            found += yield from self.take()
        return found

    def string(self) -> Reading[str | None]:
        """A JSON string, decoded; None where there is none or it does not end."""
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
        """A JSON value of any kind, its text given to `sink`; ends early where the text does."""
        character = yield from self.peek()
        if character == '"':
            yield from self._quoted(sink)
        elif character and character in "{[":
            yield from self._nested(sink)
        else:
            while (character := (yield from self.peek())) and character not in ENDS_PLAIN:
                sink((yield from self.take()))

    def _nested(self, sink: Callable[[str], None]) -> Reading[None]:
        depth = 0
        while character := (yield from self.peek()):
            if character == '"':
                yield from self._quoted(sink)
                continue
            depth += (character in "{[") - (character in "}]")
            sink((yield from self.take()))
            if depth == 0:
                return

    def _quoted(self, sink: Callable[[str], None]) -> Reading[None]:
        sink((yield from self.take()))
        while character := (yield from self.take()):
            sink(character)
            if character == "\\":
                sink((yield from self.take()))
            elif character == '"':
                return
