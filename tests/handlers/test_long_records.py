"""Long lists of records are written as lines of bounded length and read back as the same record."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from handlers.logprobs import Echo
from handlers.long_records import BEFORE_LAST, ROWS, VECTORS, LongLists, RawRows, lines_of


def row(number: int) -> dict[str, Any]:
    return {"id": number, "token": "a", "bytes": [97], "logprob": -0.5, "offset": number, "top": []}


def back(lines: list[bytes]) -> dict[str, Any]:
    """The last record, as the gateway reads it from the lines."""
    *before, last = lines
    lists = LongLists()
    for line in before:
        assert line.startswith(BEFORE_LAST)
        lists.take(line.rstrip(b"\n"))
    return lists.back_in(orjson.loads(last)["done"])


@pytest.mark.parametrize("count", [0, 1, ROWS, ROWS + 1, 5 * ROWS])
def test_rows_come_back_whole_from_lines_of_bounded_length(count: int) -> None:
    rows = [row(number) for number in range(count)]
    done = {"text": "a" * count, "findings": {}, "logprobs": rows}
    lines = list(lines_of({"done": done}))
    assert len(lines) == 1 + -(-count // ROWS)
    assert max(map(len, lines[:-1]), default=0) < 200 * ROWS
    found = back(lines)
    assert list(found.pop("logprobs")) == rows
    assert found == {"text": "a" * count, "findings": {}}
    assert done["logprobs"] == rows


def test_raw_rows_are_written_again_as_they_were() -> None:
    raw = RawRows([orjson.dumps([row(1), row(2)]), orjson.dumps([row(3)])])
    assert orjson.loads(orjson.dumps({"logprobs": raw.json()})) == {"logprobs": list(raw)}
    assert raw.size == sum(map(len, raw.lists))


@pytest.mark.parametrize("count", [1, VECTORS, 3 * VECTORS + 1])
def test_vectors_come_back_whole(count: int) -> None:
    vectors = [[n / 3, n / 7] for n in range(count)]
    done = {"text": "", "findings": {"embeddings": vectors, "dimensions": 2}}
    lines = list(lines_of({"done": done}))
    assert len(lines) == 1 + -(-count // VECTORS)
    assert back(lines) == done


def test_a_prompt_becomes_several_records_that_join_again() -> None:
    rows = [row(number) for number in range(2 * ROWS + 1)]
    records = [orjson.loads(line) for line in lines_of({"prompt": {"text": "all", "tokens": rows}})]
    assert len(records) == 3
    echo = Echo("")
    for record in records:
        echo = echo.with_more(record["prompt"])
    assert (echo.text, list(echo.tokens or ())) == ("all", rows)


@pytest.mark.parametrize("record", [{"delta": "a"}, {"error": {"message": "no"}}, {"attempt": 2}], ids=str)
def test_other_records_are_one_line(record: dict[str, Any]) -> None:
    assert list(lines_of(record)) == [orjson.dumps(record) + b"\n"]
