"""Faults of the machine around the gateway: clocks that jump, reused pids, hung workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time

import pytest

from conductor_admin.lifecycle import states
from conductor_admin.lifecycle.states import State
from conductor_admin.memory.history import MemoryHistory
from conductor_admin.workers import loader as loading
from conductor_admin.workers.torchserve_client import WorkerProcess
from conductor_admin.workers.worker import Archive
from conductor_core.paths import StateDir
from conductor_core.processes import start_ticks
from conductor_core.run_file import ProcessName, RunFile, kill_leftovers
from tests.conductor_admin.fake_torchserve import FakeBuilder
from tests.conductor_admin.gateway_rig import MakeRig, Rig
from tests.conductor_admin.test_settings_reload import CHAT, TRANSLATION, ask, beats, edit

YEAR_S = 365 * 86400.0


class WallClock:
    """`time.time` that the test controls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = time.time
        self.ahead = 0.0
        monkeypatch.setattr(time, "time", lambda: self._real() + self.ahead)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    return WallClock(monkeypatch)


@pytest.mark.parametrize("jump", [YEAR_S, -YEAR_S], ids=["ahead", "back"])
async def test_a_jump_of_the_clock_ends_no_idle_set_and_no_cool_down(
    rig: Rig, wall: WallClock, jump: float
) -> None:
    await ask(rig, TRANSLATION)
    rig.torchserve.traceback = "OSError: no such tensor"
    assert (await ask(rig)).status_code == 503
    wall.ahead = jump
    await beats(rig)
    rig.torchserve.traceback = None
    refused = await ask(rig)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_load_failed")
    assert 1 <= int(refused.headers["retry-after"]) <= states.COOLDOWN_FIRST_S
    assert rig.lifecycle.view(TRANSLATION).state is State.READY
    assert (await ask(rig, TRANSLATION)).status_code == 200
    shown = (await rig.client.get(f"/models/{TRANSLATION}")).json()
    assert 0 < shown["expires_at"] - time.time() <= 300
    assert rig.gateway.heartbeat.is_beating


@pytest.mark.parametrize("jump", [YEAR_S, -YEAR_S], ids=["ahead", "back"])
async def test_a_jump_of_the_clock_neither_ends_nor_prolongs_a_wait_for_a_load(
    rig: Rig, wall: WallClock, jump: float
) -> None:
    rig.torchserve.may_load.clear()
    impatient = asyncio.create_task(ask(rig, TRANSLATION, max_wait_s=0.3))
    patient = asyncio.create_task(ask(rig, TRANSLATION))
    await rig.until(lambda: bool(rig.torchserve.registered))
    wall.ahead = jump
    assert (await impatient).json()["error"]["code"] == "model_loading"
    rig.torchserve.may_load.set()
    assert (await patient).status_code == 200


async def test_a_set_that_is_idle_for_long_enough_ends_although_the_clock_went_back(
    rig: Rig, wall: WallClock
) -> None:
    await ask(rig, TRANSLATION, keep_alive=0.2)
    wall.ahead = -YEAR_S
    await rig.until(lambda: time.monotonic() >= rig.lifecycle._table.named(TRANSLATION).use.expires)
    await beats(rig)
    await rig.until(lambda: rig.lifecycle.view(TRANSLATION).state is State.UNAVAILABLE)


async def test_files_from_the_future_are_read_like_any_other(make_rig: MakeRig, state: StateDir) -> None:
    async with make_rig() as rig:
        await ask(rig)
        future = time.time() + YEAR_S
        for file in (state.peaks_file, state.root / "SETTINGS.md", *state.store.iterdir()):
            os.utime(file, (future, future))
        await beats(rig)
        edit(rig, ("You are kind.", "You are brief."))
        await beats(rig)
        assert rig.gateway.catalogue.persona == "You are brief."
        worker_set = rig.gateway.catalogue.set_of(CHAT)
        assert MemoryHistory(state.peaks_file).of(worker_set, CHAT)
        assert (await ask(rig)).status_code == 200
        assert len(rig.torchserve.registered) == 1


def test_a_process_has_the_same_start_whatever_the_clock_says(state: StateDir, wall: WallClock) -> None:
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    RunFile(state).torchserve_spawned(process.pid)
    wall.ahead = YEAR_S
    assert kill_leftovers(state.run_file)
    assert process.wait(timeout=5) == -signal.SIGKILL


def test_a_process_that_was_given_the_pid_later_is_not_killed(state: StateDir) -> None:
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        earlier = ProcessName(process.pid, ProcessName.of(process.pid).started - 1)
        content = {"torchserve": {"pid": earlier.pid, "started": earlier.started}}
        state.run_file.write_text(json.dumps(content))
        kill_leftovers(state.run_file)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert start_ticks(process.pid) is None


async def test_what_dead_workers_leave_is_removed(rig: Rig) -> None:
    await ask(rig)
    (worker,) = rig.torchserve.workers(CHAT)
    await worker.kill()
    await beats(rig, 1)
    await rig.until(lambda: rig.lifecycle.view(CHAT).state is State.READY)
    rig.torchserve.traceback = "OSError: no such tensor"
    assert (await ask(rig, TRANSLATION)).status_code == 503
    alive = {f"{w.pid}.sock" for w in rig.torchserve.workers(CHAT)}
    kinds = {".sock", ".error"}
    left = {file.name for file in rig.state.run.iterdir() if file.suffix in kinds and file.name[0].isdigit()}
    assert left == alive


class OneDeadWorker:
    """TorchServe with one worker, which was killed without a message."""

    def __init__(self) -> None:
        process = subprocess.Popen(["true"])
        process.wait()
        self.pid = process.pid

    async def register(self, archive: str) -> None:
        """Do nothing."""

    async def unregister(self, name: str, version: str) -> None:
        """Do nothing."""

    async def describe(self, name: str, version: str) -> list[WorkerProcess]:
        return [WorkerProcess(self.pid, ready=False)]


@pytest.mark.parametrize(("kills", "is_memory"), [([3, 3], False), ([3, 4], True)])
async def test_a_worker_killed_while_loading_is_out_of_memory_only_if_the_kernel_says_so(
    state: StateDir, monkeypatch: pytest.MonkeyPatch, kills: list[int], is_memory: bool
) -> None:
    counted = iter(kills)
    monkeypatch.setattr(loading, "kernel_oom_kills", lambda: next(counted))
    loader = loading.Loader(OneDeadWorker(), FakeBuilder(state), state)
    with pytest.raises(loading.LoadError) as caught:
        await loader.first_worker(Archive("a-1.mar", "a", "1"), ())
    assert states.is_out_of_memory(str(caught.value)) is is_memory
