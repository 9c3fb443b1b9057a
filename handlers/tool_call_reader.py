"""Reads one call of a tool out of JSON: `name` and `arguments`, also called `parameters`, in any order."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass

from handlers.character_reader import CharacterReader, Reading

ARGUMENTS = frozenset({"arguments", "parameters"})
ASIDE = frozenset({"id", "type"})
"""Members of a call that matter to nobody; any other one makes the object no call."""


@dataclass(frozen=True, slots=True)
class CallStart:
    """Call number `index`, from 0, begins; its arguments follow."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The next part of the JSON text of call `index`'s arguments."""

    index: int
    text: str


class CallReader:
    """Tells `emit` of a call as soon as its name is known and its arguments begin."""

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
        """One object; where it is no call, what was read of it stays taken."""
        if not (yield from self._reader.literal("{")):
            return False
        name, early = "", ""
        while (key := (yield from self._read_key())) is not None:
            if key in ARGUMENTS and name:
                yield from self.read_arguments(name)
                yield from self._read_rest()
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
        """The end of an object whose arguments stand before its name, or nowhere."""
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

    def _read_rest(self) -> Reading[None]:
        yield from self._read_comma()
        while (yield from self._read_key()) is not None:
            yield from self._reader.value()
            yield from self._read_comma()
        yield from self._reader.literal("}")

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
    """Arguments that are no object: none at all, or JSON inside a JSON string."""
    if arguments in {"", "null"}:
        return "{}"
    if not arguments.startswith('"'):
        return arguments
    try:
        return str(json.loads(arguments, strict=False))
    except json.JSONDecodeError:
        return arguments
