"""Pieces are joined only while more than eight streams run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from handlers.worker.coalescing import ALONE, WINDOW_S, coalesce
from handlers.worker.requests import Record

pytestmark = pytest.mark.timeout(20)
DONE: Record = {"done": {"text": "abcd"}}


class Stream:
    """Records pushed by the test; `holds` lets it see and end each hold."""

    def __init__(self, running: int) -> None:
        self.records: asyncio.Queue[Record | None] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.held: asyncio.Queue[float] = asyncio.Queue()
        self.window_over = asyncio.Event()
        self.joined = coalesce(self._iterate(), lambda: running, self._hold)

    async def _iterate(self) -> AsyncGenerator[Record, None]:
        try:
            while (record := await self.records.get()) is not None:
                yield record
        finally:
            self.closed.set()

    async def _hold(self, flush: asyncio.Event, seconds: float) -> None:
        self.held.put_nowait(seconds)
        waits = [asyncio.create_task(event.wait()) for event in (flush, self.window_over)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        self.window_over.clear()

    async def push(self, *records: Record | None) -> None:
        for record in records:
            self.records.put_nowait(record)
        while not self.records.empty():
            await asyncio.sleep(0)


async def test_a_lone_stream_is_relayed_piece_by_piece() -> None:
    stream = Stream(running=ALONE)
    for text in "abc":
        stream.records.put_nowait({"delta": text})
        assert await anext(stream.joined) == [{"delta": text}]
    await stream.push(DONE, None)
    assert [batch async for batch in stream.joined] == [[DONE]]
    assert stream.held.empty()


async def test_in_a_crowd_the_first_piece_goes_at_once_and_the_next_are_joined() -> None:
    stream = Stream(running=ALONE + 1)
    stream.records.put_nowait({"delta": "a"})
    assert await anext(stream.joined) == [{"delta": "a"}]
    following = asyncio.ensure_future(anext(stream.joined))
    assert await stream.held.get() == WINDOW_S
    await stream.push({"delta": "b"}, {"delta": "c"}, {"delta": "d"})
    assert not following.done()
    stream.window_over.set()
    assert await following == [{"delta": "bcd"}]
    await stream.joined.aclose()


async def test_the_last_record_ends_the_wait() -> None:
    stream = Stream(running=ALONE + 1)
    stream.records.put_nowait({"delta": "a"})
    assert await anext(stream.joined) == [{"delta": "a"}]
    following = asyncio.ensure_future(anext(stream.joined))
    await stream.held.get()
    await stream.push({"delta": "b"}, DONE, None)
    assert await following == [{"delta": "b"}, DONE]
    assert [batch async for batch in stream.joined] == []


async def test_pieces_of_two_attempts_are_not_joined() -> None:
    stream = Stream(running=ALONE + 1)
    for record in ({"delta": "a"}, {"attempt": 2}, {"delta": "b"}, DONE, None):
        stream.records.put_nowait(record)
    records = [record async for batch in stream.joined for record in batch]
    assert records == [{"delta": "a"}, {"attempt": 2}, {"delta": "b"}, DONE]


async def test_joined_pieces_keep_their_logprobs() -> None:
    stream = Stream(running=ALONE + 1)
    for record in (*({"delta": text, "logprobs": [{"token": text}]} for text in "ab"), DONE, None):
        stream.records.put_nowait(record)
    records = [record async for batch in stream.joined for record in batch]
    told = [row["token"] for record in records for row in record.get("logprobs", ())]
    assert ("".join(record.get("delta", "") for record in records), told) == ("ab", ["a", "b"])


async def test_closing_ends_the_iteration_of_the_source() -> None:
    stream = Stream(running=1)
    stream.records.put_nowait({"delta": "a"})
    assert await anext(stream.joined) == [{"delta": "a"}]
    await stream.joined.aclose()
    assert stream.closed.is_set()


async def test_without_a_wait_of_its_own_a_hold_ends_by_itself() -> None:
    async def endless() -> AsyncGenerator[Record, None]:
        yield {"delta": "a"}
        yield {"delta": "b"}
        await asyncio.Event().wait()

    stream = coalesce(endless(), lambda: ALONE + 1)
    batches = [await anext(stream)]
    while sum(len(record["delta"]) for batch in batches for record in batch) < 2:
        batches.append(await anext(stream))
    await stream.aclose()
