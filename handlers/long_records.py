"""Writes records as lines of JSON of bounded length, for any number of log-probabilities or vectors.

JSON parsers and writers hold the interpreter's lock from begin to end, in any thread: 8,192 tokens with
20 alternatives each take 0.4 s. So the long lists of a last record are lines of their own before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

Record = dict[str, Any]

ROWS = 64
"""Most tokens of one line: with 20 alternatives each they have 100 kB and take 3 ms to parse."""
VECTORS = 16
"""Most vectors of one line: with 4,096 numbers each they take 6 ms to parse."""

_ROWS, _VECTORS, _END = b'{"rows":', b'{"vectors":', b"}"
BEFORE_LAST = (_ROWS, _VECTORS)
"""Prefixes of lines that belong to the last record."""


def batches(items: Iterable[Any], most: int) -> Iterator[list[Any]]:
    """The items in lists of `most` items; the last list may be shorter."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == most:
            yield batch
            batch = []
    if batch:
        yield batch


def lines_of(record: Record) -> Iterator[bytes]:
    """The lines of a record; the long lists of a last record come before it and not in it.

    A prompt with tokens becomes several records; the first one has its text.
    """
    done, prompt = record.get("done"), record.get("prompt")
    if prompt is not None and prompt["tokens"]:
        for number, rows in enumerate(batches(prompt["tokens"], ROWS)):
            part = {"text": "" if number else prompt["text"], "tokens": rows}
            yield orjson.dumps({"prompt": part}) + b"\n"
        return
    if done is not None:
        for rows in batches(done.get("logprobs") or (), ROWS):
            yield _ROWS + orjson.dumps(rows) + _END + b"\n"
        for vectors in batches(_vectors(done), VECTORS):
            yield _VECTORS + orjson.dumps(vectors) + _END + b"\n"
        short = dict(done)
        if done.get("logprobs"):
            short["logprobs"] = []
        if _vectors(done):
            short["findings"] = {**done["findings"], "embeddings": []}
        record = {"done": short}
    yield orjson.dumps(record) + b"\n"


def _vectors(done: Record) -> Sequence[Any]:
    return (done.get("findings") or {}).get("embeddings") or ()


@dataclass(frozen=True, slots=True)
class RawRows:
    """Rows of log-probabilities as the worker wrote them: JSON lists, parsed one after the other.

    As dicts, the rows of 8,192 tokens would be 344,000 objects that the garbage collector has to visit.
    """

    lists: Sequence[bytes]

    def __iter__(self) -> Iterator[Record]:
        for raw in self.lists:
            yield from orjson.loads(raw)

    @property
    def size(self) -> int:
        """The size in bytes."""
        return sum(map(len, self.lists))

    def json(self) -> orjson.Fragment:
        """All rows as one list, for `orjson.dumps`."""
        return one_list(self.lists)


def one_list(lists: Iterable[bytes]) -> orjson.Fragment:
    """Several JSON lists joined to one."""
    return orjson.Fragment(b"[" + b",".join(raw[1:-1] for raw in lists) + b"]")


@dataclass(slots=True)
class LongLists:
    """Collects the lists of a last record from the lines before it."""

    _rows: list[bytes] = field(default_factory=list)
    _vectors: list[Any] = field(default_factory=list)

    def take(self, line: bytes) -> None:
        """Adds a line that begins with one of `BEFORE_LAST`."""
        if line.startswith(_ROWS):
            self._rows.append(line[len(_ROWS) : -len(_END)])
        else:
            self._vectors += orjson.loads(line)["vectors"]

    def back_in(self, done: Record) -> Record:
        """The content of the last record with its lists; log-probabilities are `RawRows`."""
        whole = dict(done)
        if self._rows:
            whole["logprobs"] = RawRows(self._rows)
        if self._vectors:
            whole["findings"] = {**done["findings"], "embeddings": self._vectors}
        return whole
