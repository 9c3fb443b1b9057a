"""Limits of a JSON text, checked before it is parsed: objects, lists, values, keys and escapes.

Pure. Takes linear time and is cheap: it counts six characters. Counts of a text that is not JSON mean
nothing; the parser refuses such a text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class JsonBounds:
    """The most objects plus lists, values plus keys, escapes in strings, and levels of nesting.

    The parser holds the interpreter's lock: 12 MB of escapes take 25 to 50 ms, 600,000 numbers 30. pydantic
    does so within each model only; calls of tools that fill these bounds take it 40 to 110 ms in all.
    """

    containers: int = 32_000
    values: int = 600_000
    escapes: int = 6_000_000
    depth: int = 200


CLIENT = JsonBounds()
"""Bounds of clients' bodies: 10,000 messages of one part have 30,000 containers, 128 prompts of 4,096 token
ids have 524,288 values, the longest text has 4,000,000 escapes."""

WORKER = JsonBounds(containers=64_000, values=1_200_000, escapes=12_000_000, depth=220)
"""Bounds of requests to a worker: larger, so that a worker refuses nothing that the gateway accepted."""

_PIECE = 2**20
"""Bytes read before another thread may run: each step holds the interpreter's lock."""

_CONTAINERS = frozenset({dict, list})


class TooComplex(Exception):
    """The text exceeds one of the bounds; the message says which."""


@dataclass(frozen=True, slots=True)
class JsonShape:
    """Counts of characters outside the strings of a JSON text."""

    containers: int
    separators: int
    pairs: int
    """The number of keys, including repeated ones."""


def shape_of(raw: bytes | bytearray, bounds: JsonBounds = CLIENT) -> JsonShape:
    """The counts of `raw`; TooComplex as soon as they exceed the bounds."""
    containers = separators = pairs = strings = escapes = inside = 0
    for piece in _pieces(raw):
        if b"\\" in piece:
            escapes += piece.count(b"\\") - piece.count(b"\\\\")
            if escapes > bounds.escapes:
                raise TooComplex(f"the body has more than {bounds.escapes} escaped characters")
            # Without these two escapes, each quotation mark begins or ends a string.
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        quotes = piece.count(b'"')
        strings += quotes
        if strings > 2 * bounds.values:
            raise TooComplex(f"the body has more than {bounds.values} values")
        outside = b"".join(piece.split(b'"')[inside::2]) if quotes or inside else piece
        inside = (inside + quotes) % 2
        containers += outside.count(b"[") + outside.count(b"{")
        separators += outside.count(b",")
        pairs += outside.count(b":")
        if containers > bounds.containers:
            raise TooComplex(f"the body has more than {bounds.containers} objects and arrays")
        if separators + containers > bounds.values:
            raise TooComplex(f"the body has more than {bounds.values} values")
    return JsonShape(containers, separators, pairs)


def keys_of(value: Any, bounds: JsonBounds = CLIENT) -> int:
    """The number of keys in a parsed `value`; TooComplex where it is nested too deeply."""
    keys, level, depth = 0, [value], 0
    while level:
        below: list[Any] = []
        for one in level:
            if type(one) is dict:
                keys += len(one)
                below += [child for child in one.values() if type(child) in _CONTAINERS]
            elif type(one) is list:
                below += [child for child in one if type(child) in _CONTAINERS]
        level, depth = below, depth + 1
        if depth > bounds.depth:
            raise TooComplex("the body is nested too deeply")
    return keys


def _pieces(raw: bytes | bytearray) -> Iterator[bytes]:
    start = 0
    while start < len(raw):
        piece = bytes(raw[start : start + _PIECE])
        # A backslash belongs to the character after it.
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = bytes(raw[start : start + _PIECE + 1])
        yield piece
        start += len(piece)
