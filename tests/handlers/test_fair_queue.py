"""The queue of the checks is bounded, serves clients in turn, and drops clients that cancel."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from handlers.sandbox.fair_queue import Busy, FairQueue, QueueBounds


class Line:
    """Clients at a queue; `served` are those that got a place, in order."""

    def __init__(self, bounds: QueueBounds) -> None:
        self.queue = FairQueue(bounds)
        self.served: list[str] = []

    async def stand(self, client: str, done: asyncio.Event | None = None) -> None:
        async with self.queue.place(client):
            self.served.append(client)
            if done is not None:
                await done.wait()


async def settle() -> None:
    """Lets all tasks run until they wait."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_clients_are_served_in_turn_however_many_one_has_waiting() -> None:
    line, done = Line(QueueBounds(running=2)), asyncio.Event()
    holding = [asyncio.create_task(line.stand(name, done)) for name in ("x", "y")]
    await settle()
    waiting = [asyncio.create_task(line.stand(name)) for name in ("a", "a", "a", "b", "c")]
    await settle()
    done.set()
    await asyncio.gather(*holding, *waiting)
    assert line.served[2:] == ["a", "b", "c", "a", "a"]


async def test_one_place_stays_free_for_somebody_else() -> None:
    line, done = Line(QueueBounds(running=4)), asyncio.Event()
    many = [asyncio.create_task(line.stand("a", done)) for _ in range(10)]
    await settle()
    assert line.served == ["a"] * 3
    await line.stand("b")
    assert line.served == ["a"] * 3 + ["b"]
    done.set()
    await asyncio.gather(*many)
    assert line.served.count("a") == 10


async def test_a_full_share_is_429_and_a_full_queue_503_with_a_time_to_retry() -> None:
    line, done = Line(QueueBounds(running=2, waiting=3, own_waiting=2)), asyncio.Event()
    async with AsyncExitStack() as held:
        await held.enter_async_context(line.queue.place("a"))
        await held.enter_async_context(line.queue.place("b"))
        waiting = [asyncio.create_task(line.stand(name)) for name in ("a", "a", "b")]
        await settle()
        for client, status in (("a", 429), ("c", 503)):
            with pytest.raises(Busy) as refused:
                await line.stand(client)
            assert refused.value.status == status
            assert refused.value.retry_after_s
    done.set()
    await asyncio.gather(*waiting)


async def test_who_leaves_while_waiting_is_not_served_and_blocks_nobody() -> None:
    line, done = Line(QueueBounds(running=2)), asyncio.Event()
    holding = [asyncio.create_task(line.stand(name, done)) for name in ("x", "y")]
    await settle()
    gone, stays = (asyncio.create_task(line.stand(name)) for name in ("gone", "stays"))
    await settle()
    gone.cancel()
    done.set()
    await asyncio.gather(*holding, stays)
    assert gone.cancelled()
    assert line.served == ["x", "y", "stays"]


async def test_who_leaves_in_the_moment_of_getting_a_place_gives_it_on() -> None:
    line, done = Line(QueueBounds(running=1)), asyncio.Event()
    holding = asyncio.create_task(line.stand("x", done))
    await settle()
    first, second = (asyncio.create_task(line.stand(name)) for name in ("first", "second"))
    await settle()
    done.set()
    await holding  # the slot was given to the first task, which has not run yet
    first.cancel()
    await second
    assert line.served[-1] == "second"


async def test_waiting_too_long_is_503() -> None:
    line = Line(QueueBounds(running=1, wait_s=0.01))
    async with line.queue.place("a"):
        with pytest.raises(Busy) as refused:
            await line.stand("b")
    assert (refused.value.status, refused.value.code) == (503, "server_overloaded")
    await line.stand("b")
    assert line.served == ["b"]
