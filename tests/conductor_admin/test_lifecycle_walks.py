"""Random walks of the lifecycle over a loader without processes: no order of events breaks a job."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from archives.weights_info import KnownWeights
from conductor_admin.lifecycle import leases, reconciler
from conductor_admin.lifecycle.leases import LeaseLimits, LeaseRequest
from conductor_admin.lifecycle.lifecycle import Lifecycle
from conductor_admin.lifecycle.states import State
from conductor_admin.memory.history import MemoryHistory
from conductor_admin.settings.plan import plan_change
from conductor_admin.workers.client import WorkerClient, WorkerHealth, WorkerUnreachable
from conductor_admin.workers.loader import Loader, LoadError
from conductor_admin.workers.worker import Archive, Worker
from conductor_core.settings.parser import parse_settings
from handlers.wire import WIRE_VERSION, RequestError
from tests.conductor_admin.gateway_rig import GB, FakeMemory

HEAD = """
|Category/Area|Best Open Source Model|VRAM/RAM Requirements|Technical Model Name|Stay Loaded|Precision|
|-|-|-|-|-|-|
"""
ROWS = (
    "| A | a | ~4GB | `models/a.gguf` | false | Q4_1 |\n| Z | a | ~4GB | `models/a.gguf` | false | Q4_1 |\n",
    "| B | b | ~4GB | `models/b.gguf` | false | Q4_1 |\n",
    "| C | c | ~3GB | `models/c.gguf` | yield | Q4_1 |\n",
    "| R | r | ~2GB | `models/r.gguf` | true | Q4_1 |\n",
)
EDITED = (ROWS[0].replace("a.gguf", "new.gguf", 1), ROWS[1], ROWS[2].replace("c.gguf", "new.gguf"), ROWS[3])
TABLES = (ROWS, EDITED, ROWS[1:], (*EDITED[:2], ROWS[3]))
CATALOGUES = [parse_settings(HEAD + "".join(rows)) for rows in TABLES]
BUDGET = 9 * GB
STEPS = 200


class StubClient:
    """Client of a worker that answers while its pid lives."""

    def __init__(self, pid: int, alive: set[int]) -> None:
        self._pid, self._alive = pid, alive

    async def health(self) -> WorkerHealth:
        await asyncio.sleep(0)
        if self._pid not in self._alive:
            raise WorkerUnreachable("gone")
        return WorkerHealth(wire=WIRE_VERSION, version="v", memory=2 * GB)


class StubLoader:
    """Loader whose effects take a few turns of the loop and fail at random."""

    def __init__(self, chance: random.Random) -> None:
        self.alive: set[int] = set()
        self._chance = chance
        self._pids = count(100)

    async def _turns(self) -> None:
        for _ in range(self._chance.randrange(6)):
            await asyncio.sleep(0)

    async def _may_fail(self) -> None:
        await self._turns()
        if self._chance.random() < 0.1:
            raise LoadError(self._chance.choice(["broken", "out of memory"]))

    async def build(self, worker_set: Any, report: Any) -> Archive:
        await self._may_fail()
        return Archive("f", worker_set.first.technical_model_name, "v", None)

    async def check(self, worker_set: Any) -> None:
        await self._may_fail()

    async def survey(self, worker_set: Any) -> KnownWeights:
        return KnownWeights()

    async def register(self, archive: Archive) -> None:
        await self._may_fail()

    async def first_worker(self, archive: Archive, dead: Collection[int]) -> Worker:
        await self._may_fail()
        pid = next(self._pids)
        self.alive.add(pid)
        client = cast(WorkerClient, StubClient(pid, self.alive))
        return Worker(pid, client, await client.health())

    async def more_workers(self, archive: Archive, known: Collection[int]) -> tuple[list[Worker], set[int]]:
        await self._turns()
        return [], set()

    async def unregister(self, archive: Archive, pids: Collection[int]) -> None:
        await self._turns()
        self.alive -= set(pids)

    async def end_worker(self, pid: int, *, grace_s: float) -> None:
        await self._turns()
        self.alive.discard(pid)


class Walk:
    """One lifecycle and a random order of everything that may happen to it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.chance = random.Random(seed)
        self.loader = StubLoader(self.chance)
        limits = LeaseLimits(60.0, 1000, lambda memory: 60.0, {"cpu": BUDGET})
        history = MemoryHistory(folder / "peaks.json")
        sets, stub = CATALOGUES[0].sets, cast(Loader, self.loader)
        self.lifecycle = Lifecycle(sets, stub, limits, FakeMemory(), history)
        self.catalogue = CATALOGUES[0]
        self.tasks: set[asyncio.Task[None]] = set()

    def entries(self) -> list[Any]:
        return list(self.lifecycle._table.entries.values())

    async def ask(self, slug: str) -> None:
        may = [self.chance.random() < 0.8 for _ in range(2)]
        keep_s = self.chance.choice([None, 0])
        request = LeaseRequest(slug, may_load=may[0], may_evict=may[1], keep_alive_s=keep_s)
        with contextlib.suppress(RequestError):
            async with self.lifecycle.lease(request):
                for _ in range(self.chance.randrange(12)):
                    await asyncio.sleep(0)

    async def operate(self, slug: str) -> None:
        with contextlib.suppress(RequestError):
            if self.chance.random() < 0.5:
                await self.lifecycle.load(slug)
            else:
                drain = self.chance.random() < 0.5
                await self.lifecycle.unload(slug, slug, force=True, drain=drain)

    async def kill(self) -> None:
        if self.loader.alive:
            self.loader.alive.discard(self.chance.choice(sorted(self.loader.alive)))

    async def edit(self) -> None:
        old, self.catalogue = self.catalogue, self.chance.choice(CATALOGUES)
        self.lifecycle.apply(plan_change(old, self.catalogue))

    async def end_torchserve(self) -> None:
        self.loader.alive.clear()
        await self.lifecycle.torchserve_ended()
        await asyncio.sleep(0)
        await self.lifecycle.torchserve_started()

    def step(self) -> None:
        slug = self.chance.choice(["a", "z", "b", "c", "r"])
        events: dict[Callable[[], Coroutine[Any, Any, None]], float] = {
            partial(self.ask, slug): 12,
            partial(self.operate, slug): 6,
            self.lifecycle.reconcile: 4,
            self.kill: 1,
            self.edit: 1,
            self.end_torchserve: 0.5,
        }
        (event,) = self.chance.choices(list(events), list(events.values()))
        self.tasks.add(asyncio.create_task(event()))

    def check(self) -> None:
        """Hold the books: each set without a job rests in a state, with what belongs to it."""
        held = 0
        for entry in self.entries():
            load, job = entry.load, entry.load.job
            held += (entry.memory.held or {}).get("cpu", 0)
            if load.running_job:
                continue
            assert job is None or job.exception() is None
            assert load.state in (State.UNAVAILABLE, State.READY, State.FAILED)
            if load.state is not State.READY:
                assert (entry.memory.held, load.registered, load.workers) == (None, False, {})
        assert held <= BUDGET

    async def end(self) -> None:
        """Free memory until all that was begun has ended."""
        while not all(task.done() for task in self.tasks):
            self.tasks.add(asyncio.create_task(self.operate("abc"[len(self.tasks) % 3])))
            await self.lifecycle.reconcile()
            await asyncio.sleep(0)
            self.check()
        for task in self.tasks:
            task.result()


@pytest.mark.parametrize("seed", range(12))
async def test_no_order_of_events_breaks_a_job_or_the_books(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = Walk(seed, tmp_path)
    for module in (leases, reconciler):
        monkeypatch.setattr(module, "is_alive", lambda pid: pid in walk.loader.alive)
    await walk.lifecycle.torchserve_started()
    walk.lifecycle.start()
    async with asyncio.timeout(60):
        for _ in range(STEPS):
            walk.step()
            for _ in range(walk.chance.randrange(4)):
                await asyncio.sleep(0)
                walk.check()
        await walk.end()
    await walk.lifecycle.close()
