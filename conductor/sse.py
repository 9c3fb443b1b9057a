"""Server-sent events as the gateway sends them: lines in, typed events out.

Knows the three forms of `/generate/stream` (comment, data record, `[DONE]`), no transport.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Comment:
    """Progress while a set loads; not part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Record:
    """One JSON object of the stream: `{"delta"}`, `{"attempt"}`, `{"error"}` or the last record."""

    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class End:
    """The `[DONE]` line: the stream succeeded."""


class BrokenEvent(ValueError):
    """An event that is not JSON: the stream was cut inside it."""


Event = Comment | Record | End


def events(lines: Iterable[str]) -> Iterator[Event]:
    """The events of a stream of lines (without line ends); other fields and blank lines are skipped."""
    for line in lines:
        if line.startswith(":"):
            yield Comment(line[1:].strip())
        elif line.startswith("data:"):
            yield _data(line[5:].strip())


def _data(text: str) -> Event:
    if text == "[DONE]":
        return End()
    try:
        return Record(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise BrokenEvent(text[:80]) from error
