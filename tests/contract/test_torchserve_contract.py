"""TorchServe's behaviour that the gateway relies on: the same tests over the fake and the real one."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import orjson
import pytest
import pytest_asyncio

from conductor_admin.workers.client import WorkerClient
from conductor_admin.workers.torchserve_client import TorchServe, TorchServeError, WorkerProcess
from conductor_admin.workers.torchserve_token import read_keys
from conductor_core.paths import StateDir
from tests.conductor_admin.fake_torchserve import FakeTorchServe
from tests.contract.stub_archive import LOADS, write_archive
from tests.torchserve_process import short_folder, torchserve

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

PATIENCE_S = 60


class Subject(Protocol):
    """A TorchServe under test: its client, the folder of its workers' sockets, and its store."""

    client: TorchServe
    run: Path

    def add(self, name: str, version: str, *, fails: bool = False) -> str:
        """Put an archive into the store, on request one whose load fails; return its file name."""
        ...


class Fake:
    """The fake of the component tests."""

    def __init__(self, state: StateDir, server: FakeTorchServe) -> None:
        self.client = TorchServe(state.management_socket, state.inference_socket, state.torchserve_keys)
        self.run = state.run
        self._store = state.store
        self._server = server

    def add(self, name: str, version: str, *, fails: bool = False) -> str:
        self._server.traceback = "ValueError: no such tensor" if fails else None
        file = self._store / f"{name}-{version}.mar"
        file.touch()
        return file.name


class Real:
    """TorchServe 0.12.0 with workers whose runtime is scripted."""

    def __init__(self, folder: Path) -> None:
        self.client = TorchServe(folder / "management", folder / "inference", folder / "key_file.json")
        self.run = folder / "run"
        self._folder = folder

    def add(self, name: str, version: str, *, fails: bool = False) -> str:
        load = "raise ValueError('no such tensor')" if fails else LOADS
        unpacked = write_archive(self._folder / "store" / version, name, load=load, version=version)
        file = self._folder / "store" / f"{name}-{version}.mar"
        Path(shutil.make_archive(str(file.with_suffix("")), "zip", unpacked)).rename(file)
        return file.name


@asynccontextmanager
async def fake() -> AsyncIterator[Subject]:
    with short_folder() as folder:
        state = StateDir.at(folder / "state")
        state.create()
        server = FakeTorchServe(state)
        await server.start()
        yield Fake(state, server)
        await server.stop()


@asynccontextmanager
async def real() -> AsyncIterator[Subject]:
    with torchserve() as server:
        yield Real(server.folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[fake, real], ids=["fake", "real"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    async with request.param() as made:
        yield made


async def worker(
    subject: Subject,
    name: str,
    version: str,
    fits: Callable[[WorkerProcess], bool] = lambda found: found.ready,
) -> WorkerProcess:
    """The first worker of the version that fits."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for found in await subject.client.describe(name, version):
                if fits(found):
                    return found
            await asyncio.sleep(0.05)


async def gone(pid: int) -> None:
    """Wait until the process has ended; a zombie counts as ended."""
    status = Path(f"/proc/{pid}/stat")
    async with asyncio.timeout(PATIENCE_S):
        while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
            await asyncio.sleep(0.02)


async def test_a_registered_archive_gets_a_worker_that_answers_on_the_socket_of_its_pid(
    subject: Subject,
) -> None:
    await subject.client.register(subject.add("answers", "a1"))
    found = await worker(subject, "answers", "a1")
    client = WorkerClient(subject.run / f"{found.pid}.sock")
    assert (await client.health()).version == "a1"
    await subject.client.unregister("answers", "a1")


async def test_an_archive_that_is_not_in_the_store_is_404(subject: Subject) -> None:
    with pytest.raises(TorchServeError) as refused:
        await subject.client.register("nowhere-a1.mar")
    assert refused.value.status == 404


async def test_a_version_that_is_registered_already_is_409(subject: Subject) -> None:
    archive = subject.add("twice", "a1")
    await subject.client.register(archive)
    await worker(subject, "twice", "a1")
    with pytest.raises(TorchServeError) as refused:
        await subject.client.register(archive)
    assert refused.value.status == 409
    await subject.client.unregister("twice", "a1")


async def test_unregistering_ends_the_worker_and_may_be_said_twice(subject: Subject) -> None:
    await subject.client.register(subject.add("leaves", "a1"))
    found = await worker(subject, "leaves", "a1")
    await subject.client.unregister("leaves", "a1")
    await gone(found.pid)
    await subject.client.unregister("leaves", "a1")
    with pytest.raises(TorchServeError) as refused:
        await subject.client.describe("leaves", "a1")
    assert refused.value.status == 404


async def test_a_killed_worker_is_replaced_by_one_with_another_pid(subject: Subject) -> None:
    await subject.client.register(subject.add("killed", "a1"))
    first = await worker(subject, "killed", "a1")
    os.kill(first.pid, signal.SIGKILL)
    second = await worker(subject, "killed", "a1", lambda found: found.ready and found.pid != first.pid)
    assert second.pid != first.pid
    await subject.client.unregister("killed", "a1")


async def test_the_default_version_can_be_unregistered_beside_another_one(subject: Subject) -> None:
    for version in ("a1", "a2"):
        await subject.client.register(subject.add("swaps", version))
    old, new = [await worker(subject, "swaps", version) for version in ("a1", "a2")]
    await subject.client.unregister("swaps", "a1")
    await gone(old.pid)
    assert [found.pid for found in await subject.client.describe("swaps", "a2")] == [new.pid]
    await subject.client.unregister("swaps", "a2")


async def test_a_load_that_fails_leaves_its_last_line_in_the_run_folder(subject: Subject) -> None:
    await subject.client.register(subject.add("fails", "a1", fails=True))
    async with asyncio.timeout(PATIENCE_S):
        while not (notices := [n for n in map(_notice, subject.run.glob("*.error")) if n["set"] == "fails"]):
            await asyncio.sleep(0.05)
    assert notices[0]["error"] == "ValueError: no such tensor"
    assert notices[0]["version"] == "a1"
    await subject.client.unregister("fails", "a1")


async def test_keys_of_the_real_torchserve_are_renewed_before_and_after_they_expire() -> None:
    lifetime_min = 0.05  # three seconds
    with torchserve(lifetime_min=lifetime_min) as server:
        key_file = server.folder / "key_file.json"
        client = TorchServe(
            server.folder / "management", server.folder / "inference", key_file, lifetime_min=lifetime_min
        )
        assert await client.fault() is None
        first = read_keys(key_file)
        async with asyncio.timeout(PATIENCE_S):
            while read_keys(key_file) == first:
                await client.renew_when_due()
                await asyncio.sleep(0.05)
        second = read_keys(key_file)
        assert second.expires > first.expires
        assert {second.management, second.inference}.isdisjoint({first.management, first.inference})
        await client.unregister("nothing", "1")
        assert read_keys(key_file) == second
        async with asyncio.timeout(PATIENCE_S):
            while time.time() <= second.expires:
                await asyncio.sleep(0.05)
        await client.unregister("nothing", "1")
        assert await client.ping()
        assert read_keys(key_file) != second


def _notice(file: Path) -> dict[str, str]:
    return dict(orjson.loads(file.read_bytes()))


@pytest.mark.parametrize("name", ["../x.mar", "/etc/x.mar", "http://x/y.mar", "x.mar?url=y", "x.zip", ""])
async def test_no_other_name_than_an_archive_of_the_store_reaches_torchserve(
    subject: Subject, name: str
) -> None:
    with pytest.raises(TorchServeError) as refused:
        await subject.client.register(name)
    assert refused.value.status == 0
