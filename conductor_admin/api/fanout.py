"""Several generations at a time, with their records merged into one stream.

Knows jobs and records, no protocol. Closing the stream ends all generations.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from conductor_admin.dispatcher import Dispatcher
from conductor_admin.http.responses import failure_of
from conductor_admin.planner import PlannedRequest
from conductor_admin.sessions.service import Records
from handlers.logprobs import Echo
from handlers.wire import Done, RequestError

log = structlog.get_logger()

_AT_A_TIME = 16
_AHEAD = 4
"""Blocks of records that are queued for a slow reader, each up to 512 KiB; then the workers wait."""


@dataclass(frozen=True, slots=True)
class ChoiceRecords:
    """Records of the job number `index`, in order; the last one of a job is its Done."""

    index: int
    records: list[dict[str, Any]]
    done: Done | None = None


@dataclass(frozen=True, slots=True)
class ChoiceResult:
    """The last record of one job, and its prompt if requested."""

    job: PlannedRequest
    done: Done
    echo: Echo | None = None


async def stream_all(
    dispatcher: Dispatcher,
    jobs: Sequence[PlannedRequest],
    quiet_s: Callable[[], float],
    *,
    sends: bool = True,
) -> AsyncGenerator[ChoiceRecords | None, None]:
    """Stream the records of all jobs as they come; yield None after `quiet_s()` seconds without any.

    Raises the RequestError of the first job that fails, which ends the others.
    """
    queue: asyncio.Queue[ChoiceRecords | RequestError] = asyncio.Queue(_AHEAD)
    gate = asyncio.Semaphore(_AT_A_TIME)

    async def pump(number: int, job: PlannedRequest) -> None:
        async with gate:
            await _pump(dispatcher.run(job, sends=sends), number, queue)

    tasks = {asyncio.create_task(pump(number, job)) for number, job in enumerate(jobs)}
    left = len(tasks)
    try:
        while left:
            item = await _next(queue, quiet_s())
            if isinstance(item, RequestError):
                raise item
            left -= item is not None and item.done is not None
            yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def results_of_all(dispatcher: Dispatcher, jobs: Sequence[PlannedRequest]) -> list[ChoiceResult]:
    """Run the jobs; return their ends in the order of the jobs. Raises RequestError."""
    ended: dict[int, Done] = {}
    echoes: dict[int, Echo] = {}
    async with aclosing(stream_all(dispatcher, jobs, lambda: 3600.0, sends=False)) as stream:
        async for item in stream:
            if item is None:
                continue
            for record in item.records:
                if "prompt" in record:
                    echoes[item.index] = echoes.get(item.index, Echo("")).with_more(record["prompt"])
            if item.done is not None:
                ended[item.index] = item.done
    return [ChoiceResult(job, ended[number], echoes.get(number)) for number, job in enumerate(jobs)]


async def _next(
    queue: asyncio.Queue[ChoiceRecords | RequestError], quiet_s: float
) -> ChoiceRecords | RequestError | None:
    try:
        async with asyncio.timeout(quiet_s):
            return await queue.get()
    except TimeoutError:
        return None


async def _pump(records: Records, number: int, queue: asyncio.Queue[ChoiceRecords | RequestError]) -> None:
    try:
        async with aclosing(records):
            async for record in records:
                await queue.put(_read(number, record))
    except RequestError as error:
        await queue.put(error)
    except Exception as error:  # the outermost loop of this task: the reader of the queue must get the error
        log.exception("generation_broken")
        await queue.put(failure_of(error))


def _read(number: int, record: bytes | Done) -> ChoiceRecords:
    if isinstance(record, Done):
        return ChoiceRecords(number, [], record)
    return ChoiceRecords(number, [orjson.loads(line) for line in record.splitlines()])
