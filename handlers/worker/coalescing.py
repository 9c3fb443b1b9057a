"""Joins pieces of a stream while many streams run, so that relaying takes little CPU from the runtime.

Knows records and time; no HTTP. With up to `ALONE` streams every record is passed on at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from itertools import groupby

from handlers.worker.requests import Record

ALONE = 8
WINDOW_S = 0.1

HoldBack = Callable[[asyncio.Event, float], Awaitable[None]]


async def _hold(flush: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await flush.wait()


async def coalesce(
    records: AsyncIterator[Record], running: Callable[[], int], hold: HoldBack = _hold
) -> AsyncGenerator[list[Record], None]:
    """Lists of records to write together, in order; no list is empty.

    `running()` is the number of streams of the worker now; `hold(flush, seconds)` returns after `seconds` or
    as soon as `flush` is set. The first record is passed on at once, others wait at most `WINDOW_S`, and a
    record that is not a delta ends the wait. Closing the generator ends the iteration of `records`.
    """
    box: list[Record] = []
    arrived, flush = asyncio.Event(), asyncio.Event()
    filler = asyncio.create_task(_fill(box, records, arrived, flush))
    try:
        while not filler.done() or box:
            await arrived.wait()
            arrived.clear()
            flush.clear()
            if box:
                batch = _merged(box)
                box.clear()
                yield batch
            if running() > ALONE and not filler.done():
                await hold(flush, WINDOW_S)
        await filler
    finally:
        filler.cancel()
        await asyncio.wait({filler})


async def _fill(
    box: list[Record], records: AsyncIterator[Record], arrived: asyncio.Event, flush: asyncio.Event
) -> None:
    try:
        async for record in records:
            box.append(record)
            arrived.set()
            if "delta" not in record:
                flush.set()
    finally:
        arrived.set()
        flush.set()


def _merged(box: list[Record]) -> list[Record]:
    merged: list[Record] = []
    for is_delta, group in groupby(box, lambda record: "delta" in record):
        records = list(group)
        if not is_delta:
            merged += records
            continue
        joined: Record = {"delta": "".join(record["delta"] for record in records)}
        if "logprobs" in records[0]:
            joined["logprobs"] = [row for record in records for row in record["logprobs"]]
        merged.append(joined)
    return merged
