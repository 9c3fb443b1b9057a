"""Several generations at a time: as one stream of records, or as their ends.

Knows jobs and records, no protocol. Closing the stream ends all generations.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from conductor_admin.dispatcher import Dispatcher
from conductor_admin.planner import PlannedRequest
from handlers.logprobs import Echo
from handlers.long_records import RawRows
from handlers.wire import Done

_AT_A_TIME = 16
_AHEAD = 4
"""Blocks of records that are queued for a slow reader, each up to 512 KiB; then the workers wait."""


@dataclass(frozen=True, slots=True)
class ChoiceRecords:
    """Records of the job number `index`, in order: a block of whole NDJSON lines, or at its end the Done."""

    index: int
    job: PlannedRequest
    block: bytes = b""
    done: Done | None = None

    @property
    def records(self) -> list[dict[str, Any]]:
        """The parsed lines of the block."""
        return [orjson.loads(line) for line in self.block.splitlines()]

    @property
    def size(self) -> int:
        """Size of the last record, in characters or in units that cost as much to serialise; else 0."""
        return 0 if self.done is None else _size(self.done)


@dataclass(frozen=True, slots=True)
class ChoiceResult:
    """The last record of one job, and its prompt if requested."""

    job: PlannedRequest
    done: Done
    echo: Echo | None = None

    @property
    def size(self) -> int:
        """Size in characters, or in units that cost as much to serialise."""
        return _size(self.done) + (self.echo.size if self.echo else 0)


def _size(done: Done) -> int:
    rows = done.logprobs.size if isinstance(done.logprobs, RawRows) else 0
    return len(done.text) + rows + sum(map(len, done.findings.get("embeddings") or ()))


async def stream_all(
    dispatcher: Dispatcher, jobs: Sequence[PlannedRequest], quiet_s: Callable[[], float]
) -> AsyncGenerator[ChoiceRecords | None, None]:
    """Stream the records of all jobs as they come; yield None after `quiet_s()` seconds without any.

    Raises the error of the first job that fails, which ends the others.
    """
    queue: asyncio.Queue[ChoiceRecords | Exception] = asyncio.Queue(_AHEAD)
    gate = asyncio.Semaphore(_AT_A_TIME)

    async def pump(index: int, job: PlannedRequest) -> None:
        async with gate:
            try:
                async with aclosing(dispatcher.run(job)) as records:
                    async for record in records:
                        if isinstance(record, Done):
                            await queue.put(ChoiceRecords(index, job, done=record))
                        else:
                            await queue.put(ChoiceRecords(index, job, record))
            except Exception as error:  # the outermost loop of this task: the reader of the queue raises it
                await queue.put(error)

    tasks = {asyncio.create_task(pump(index, job)) for index, job in enumerate(jobs)}
    left = len(tasks)
    try:
        while left:
            try:
                async with asyncio.timeout(quiet_s()):
                    item = await queue.get()
            except TimeoutError:
                yield None
                continue
            if isinstance(item, Exception):
                raise item
            left -= item.done is not None
            yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def results_of_all(dispatcher: Dispatcher, jobs: Sequence[PlannedRequest]) -> list[ChoiceResult]:
    """Run the jobs; return their ends in the order of the jobs.

    Raises the error of the first job that fails, which ends the others.
    """
    if len(jobs) == 1:
        return [await result_of(dispatcher, jobs[0])]
    gate = asyncio.Semaphore(_AT_A_TIME)

    async def end(job: PlannedRequest) -> ChoiceResult:
        async with gate:
            return await result_of(dispatcher, job)

    tasks = [asyncio.create_task(end(job)) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def result_of(dispatcher: Dispatcher, job: PlannedRequest) -> ChoiceResult:
    """Run the job; return its last record, with the prompt if the job asks for it. Raises RequestError."""
    if not job.request.echo:
        return ChoiceResult(job, await dispatcher.result(job))
    echo: Echo | None = None

    def hear(block: bytes) -> None:
        nonlocal echo
        for line in block.splitlines():
            if (part := orjson.loads(line).get("prompt")) is not None:
                echo = (echo or Echo("")).with_more(part)

    done = await dispatcher.result(job, hear)
    return ChoiceResult(job, done, echo)
