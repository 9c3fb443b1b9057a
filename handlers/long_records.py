"""Records as lines of JSON of bounded length, however many log-probabilities or vectors they have.

A parser and a writer of JSON keep the interpreter's lock from begin to end, in any thread: 8,192 tokens with
20 alternatives each take 0.4 s. So the long lists of a last record stand in lines of their own before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

Record = dict[str, Any]

ROWS = 64
"""Tokens of one line: with 20 alternatives each they are 100 kB, and take 3 ms to parse."""
VECTORS = 16
"""Vectors of one line: of 4,096 numbers each they take 6 ms to parse."""

_ROWS, _VECTORS, _END = b'{"rows":', b'{"vectors":', b"}"
BEFORE_LAST = (_ROWS, _VECTORS)
"""Beginnings of lines that belong to the last record."""


def batches(items: Iterable[Any], most: int) -> Iterator[list[Any]]:
    """The items in lists of `most`, the last one shorter."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == most:
            yield batch
            batch = []
    if batch:
        yield batch


def lines_of(record: Record) -> Iterator[bytes]:
    """The lines of a record; a last one has its long lists before it, and none in it.

    A prompt with its tokens becomes several such records, the first of which has its text.
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
        record = {"done": _shortened(done)}
    yield orjson.dumps(record) + b"\n"


def _vectors(done: Record) -> Sequence[Any]:
    return (done.get("findings") or {}).get("embeddings") or ()


def _shortened(done: Record) -> Record:
    short = dict(done)
    if done.get("logprobs"):
        short["logprobs"] = []
    if _vectors(done):
        short["findings"] = {**done["findings"], "embeddings": []}
    return short


@dataclass(frozen=True, slots=True)
class RawRows:
    """Rows of log-probabilities as their worker wrote them: lists of JSON, parsed one after the other.

    Kept as dicts, those of 8,192 tokens would be 344,000 objects for the garbage collector to look through.
    """

    lists: Sequence[bytes]

    def __iter__(self) -> Iterator[Record]:
        for raw in self.lists:
            yield from orjson.loads(raw)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.lists))

    def json(self) -> orjson.Fragment:
        """All of them as one list, for `orjson.dumps`."""
        return one_list(self.lists)


def one_list(lists: Iterable[bytes]) -> orjson.Fragment:
    """The items of several lists of JSON as one list."""
    return orjson.Fragment(b"[" + b",".join(raw[1:-1] for raw in lists) + b"]")


@dataclass(slots=True)
class LongLists:
    """The lists of a last record, taken from the lines before it."""

    _rows: list[bytes] = field(default_factory=list)
    _vectors: list[Any] = field(default_factory=list)

    def take(self, line: bytes) -> None:
        """Keep a line that begins as one of `BEFORE_LAST`."""
        if line.startswith(_ROWS):
            self._rows.append(line[len(_ROWS) : -len(_END)])
        else:
            self._vectors += orjson.loads(line)["vectors"]

    def back_in(self, done: Record) -> Record:
        """The content of the last record, with its lists; log-probabilities as `RawRows`."""
        whole = dict(done)
        if self._rows:
            whole["logprobs"] = RawRows(self._rows)
        if self._vectors:
            whole["findings"] = {**done["findings"], "embeddings": self._vectors}
        return whole
