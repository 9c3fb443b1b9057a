"""The supervised TorchServe: silence is reported and ended, its end leaves no process or file behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

import psutil
import pytest
import structlog

from conductor import server as conductor_server
from conductor_admin.workers import (
    session_guard,
    torchserve_client,
    torchserve_config,
    torchserve_process,
    torchserve_watch,
)
from conductor_admin.workers.cleanup import finish
from conductor_admin.workers.torchserve_client import TorchServe
from conductor_admin.workers.torchserve_process import TorchServeProcess
from conductor_admin.workers.torchserve_watch import LEAST_MISSES, SILENT_S, Pulse
from conductor_core import processes
from conductor_core.paths import StateDir
from handlers.diagnostics import library_log
from tests.conductor_admin.fake_torchserve import FakeTorchServe
from tests.conductor_admin.gateway_rig import Rig
from tests.conductor_admin.test_settings_reload import CHAT, TRANSLATION, ask

PATIENCE_S = 20.0
GUARD = [sys.executable, "-I", "-S", session_guard.__file__]
SLEEPERS = ["sh", "-c", "sleep 600 & exec sleep 600"]  # a JVM and its worker


class Supervised:
    """A supervised process with a fake TorchServe, and the events that its listener got."""

    def __init__(self, state: StateDir) -> None:
        self.state = state
        self.fake = FakeTorchServe(state)
        self.told: list[str] = []
        self.pids: list[int] = []
        self._starts: list[asyncio.Task[None]] = []
        client = TorchServe(state.management_socket, state.inference_socket, state.torchserve_keys)
        self.process = TorchServeProcess(state, Path("java"), client, self, spawned=self._spawned)

    def _spawned(self, pid: int) -> None:
        self.pids.append(pid)
        self._starts.append(asyncio.ensure_future(self._start_fake()))

    async def _start_fake(self) -> None:
        if len(self._starts) > 1:
            await self.fake.stop()
        self.fake.may_answer.set()
        await self.fake.start()

    async def torchserve_started(self) -> None:
        self.told.append("started")

    async def torchserve_ended(self) -> None:
        self.told.append("ended")

    def torchserve_silent(self, fault: str) -> None:
        self.told.append(f"silent: {fault}")

    def torchserve_heard(self) -> None:
        self.told.append("heard")

    async def until(self, fact: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not fact():
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        await asyncio.gather(*self._starts)
        await self.fake.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sleeping processes instead of the JVM, and short times."""
    monkeypatch.setattr(torchserve_config, "command", lambda state, java: [*GUARD, *SLEEPERS])
    monkeypatch.setattr(torchserve_process, "PING_EVERY_S", 0.02)
    monkeypatch.setattr(torchserve_client, "PING_TIMEOUT_S", 0.1)
    monkeypatch.setattr(torchserve_watch, "SILENT_S", 0.5)


@pytest.fixture
async def supervised(state: StateDir, quick: None) -> AsyncIterator[Supervised]:
    made = Supervised(state)
    running = asyncio.create_task(made.process.supervise())
    await made.until(lambda: made.told == ["started"] and len(members(made.pids[0])) == 3)
    yield made
    running.cancel()
    await asyncio.wait({running})
    await made.close()
    assert not [pid for pid in made.pids if members(pid)]


def members(session: int) -> list[psutil.Process]:
    """Living processes of a session."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


async def replaced(supervised: Supervised) -> None:
    await supervised.until(lambda: supervised.told[-2:] == ["ended", "started"])
    assert len(supervised.pids) == 2
    assert not members(supervised.pids[0])


async def test_a_torchserve_that_answers_nothing_is_told_of_once_and_replaced(supervised: Supervised) -> None:
    with structlog.testing.capture_logs() as lines:
        supervised.fake.may_answer.clear()
        await replaced(supervised)
    started, silent, *_ = supervised.told
    assert (started, silent.startswith("silent: the ")) == ("started", True)
    assert [line["event"] for line in lines] == [
        "torchserve_silent",
        "torchserve_given_up",
        "torchserve_ended",
        "torchserve_started",
    ]


async def test_stopped_processes_do_not_hold_up_their_end(supervised: Supervised) -> None:
    for process in members(supervised.pids[0]):
        process.suspend()
    supervised.fake.may_answer.clear()
    await replaced(supervised)


@pytest.mark.parametrize("name", ["management.sock", "inference.sock"])
async def test_a_socket_that_was_removed_is_a_silence(supervised: Supervised, name: str) -> None:
    (supervised.state.run / name).unlink()
    await replaced(supervised)
    assert name.partition(".")[0] in supervised.told[1]


async def test_a_pause_ends_nothing(supervised: Supervised, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchserve_watch, "SILENT_S", 1e9)
    supervised.fake.may_answer.clear()
    await supervised.until(lambda: len(supervised.told) == 2)
    supervised.fake.may_answer.set()
    await supervised.until(lambda: supervised.told[-1] == "heard")
    assert len(supervised.pids) == 1
    assert members(supervised.pids[0])


async def test_a_torchserve_that_ends_is_started_anew(supervised: Supervised) -> None:
    (jvm,) = (p for p in members(supervised.pids[0]) if p.ppid() == supervised.pids[0])
    jvm.kill()
    await replaced(supervised)
    assert not any(told.startswith("silent") for told in supervised.told)


async def test_what_it_leaves_is_removed_beside_the_event_loop(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal of a folder of unpacked archives takes a second on a slow disk."""
    sweep, threads = torchserve_config.sweep, set[threading.Thread]()

    def noted(state: StateDir) -> None:
        threads.add(threading.current_thread())
        sweep(state)

    monkeypatch.setattr(torchserve_config, "sweep", noted)
    supervised.fake.may_answer.clear()
    await replaced(supervised)
    assert threads
    assert threading.current_thread() not in threads


async def test_keys_are_renewed_while_it_runs(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised.process._client, "_lifetime_min", 1e6)
    await supervised.until(lambda: supervised.fake.bought[:2] == ["management", "inference"])
    assert not any(told.startswith("silent") for told in supervised.told)


async def test_its_log_is_kept_small_while_it_runs(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_log, "LOG_BYTES", 1000)
    log = torchserve_config.output_file(supervised.state)
    with log.open("ab") as writer:
        writer.write(b"x" * 5000)
    await supervised.until(lambda: log.with_name("torchserve.log.1").exists() and not log.stat().st_size)


async def test_a_full_disk_at_a_restart_ends_only_that_attempt(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, faults = torchserve_config.write, [OSError(28, "No space left on device")]

    def failing(state: StateDir) -> None:
        if faults:
            raise faults.pop()
        write(state)

    monkeypatch.setattr(torchserve_process, "_BACKOFF_S", (0.01,))
    monkeypatch.setattr(torchserve_config, "write", failing)
    members(supervised.pids[0])[0].kill()
    await supervised.until(lambda: supervised.told[-2:] == ["ended", "started"])
    assert not faults


def test_a_pulse_is_lost_after_time_and_misses() -> None:
    pulse = Pulse(100.0)
    assert not pulse.is_silent
    for _ in range(LEAST_MISSES):
        assert not pulse.is_lost(100.0 + 2 * SILENT_S)
        pulse = pulse.after(100.0, answered=False)
    assert pulse.is_silent
    assert not pulse.is_lost(100.0 + SILENT_S - 1)
    assert pulse.is_lost(100.0 + SILENT_S)
    assert pulse.after(130.0, answered=True) == Pulse(130.0)


class HeldKill:
    """A `wait_until_gone` that signals its begin and waits for permission to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        monkeypatch.setattr(torchserve_process, "wait_until_gone", self)

    def __call__(self, pids: Collection[int], seconds: float) -> bool:
        self.begun.set()
        assert self.may_end.wait(PATIENCE_S)
        return processes.wait_until_gone(pids, seconds)


async def test_an_end_that_is_cancelled_again_and_again_is_carried_out(
    state: StateDir, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldKill(monkeypatch)
    second = Supervised(state)
    running = asyncio.create_task(second.process.supervise())
    await second.until(lambda: second.told == ["started"])
    running.cancel()
    await asyncio.to_thread(held.begun.wait, PATIENCE_S)
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0)
    assert not running.done()
    held.may_end.set()
    await asyncio.wait({running})
    assert running.cancelled()
    assert not members(second.pids[0])
    assert not list(state.run.glob("*.sock"))
    await second.close()


async def test_a_cancellation_in_the_middle_of_a_start_leaves_no_process(
    state: StateDir, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn, begun, made = asyncio.create_subprocess_exec, asyncio.Event(), []

    async def noted(*command: str, **options: object) -> asyncio.subprocess.Process:
        process = await spawn(*command, **options)  # type: ignore[arg-type]
        made.append(process.pid)
        begun.set()
        for _ in range(3):
            await asyncio.sleep(0)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    second = Supervised(state)
    running = asyncio.create_task(second.process.supervise())
    await begun.wait()
    running.cancel()
    await asyncio.wait({running})
    assert not members(made[0])
    await second.close()


class SlowEnd:
    """Parts of a server whose TorchServe ends slowly, and which record that all was closed."""

    def __init__(self) -> None:
        self.gateway = self.lifecycle = self.heartbeat = self.settings = self.mcp = self.process = self
        self.begun, self.ending, self.may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.closed = False

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def supervise(self) -> None:
        try:
            self.begun.set()
            await asyncio.Event().wait()
        finally:
            self.ending.set()
            await finish(self._end())

    async def _end(self) -> None:
        await self.may_end.wait()

    def start(self) -> None: ...

    def refuse(self) -> None: ...

    async def close(self) -> None:
        assert self.may_end.is_set()
        self.closed = True


async def test_everything_is_closed_however_often_the_models_are_cancelled() -> None:
    parts = SlowEnd()
    models = asyncio.create_task(conductor_server._models(parts))  # type: ignore[arg-type]
    await parts.begun.wait()
    models.cancel()
    await parts.ending.wait()
    for _ in range(3):
        models.cancel()
        await asyncio.sleep(0)
    assert not models.done()
    parts.may_end.set()
    await asyncio.wait({models})
    assert parts.closed
    assert models.cancelled()


async def test_what_is_finished_gives_its_result_or_its_error() -> None:
    async def result() -> int:
        return 7

    async def error() -> None:
        raise OSError("full")

    assert await finish(result()) == 7
    with pytest.raises(OSError, match="full"):
        await finish(error())


class Guarded:
    """A guard with a child and a grandchild, and the gateway's end of its pipe."""

    def __init__(self, command: list[str]) -> None:
        theirs, self.lifeline = os.pipe()
        self.guard = subprocess.Popen(
            [*GUARD, *command],
            stdin=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def end(self) -> None:
        processes.kill_session(self.guard.pid)
        self.guard.wait(PATIENCE_S)
        os.close(self.lifeline)


@pytest.fixture
async def guarded() -> AsyncIterator[Guarded]:
    made = Guarded(SLEEPERS)
    async with asyncio.timeout(PATIENCE_S):
        while len(members(made.guard.pid)) < 3:
            await asyncio.sleep(0.01)
    yield made
    made.end()


def test_the_end_of_the_gateway_ends_the_session_even_where_it_is_stopped(guarded: Guarded) -> None:
    everybody = members(guarded.guard.pid)
    for process in everybody[1:]:
        process.suspend()
    os.close(guarded.lifeline)
    guarded.lifeline = os.open(os.devnull, os.O_RDONLY)
    guarded.guard.wait(PATIENCE_S)
    assert not psutil.wait_procs(everybody, timeout=PATIENCE_S)[1]


def test_the_end_of_the_guard_ends_torchserve(guarded: Guarded) -> None:
    (jvm,) = (p for p in members(guarded.guard.pid) if p.ppid() == guarded.guard.pid)
    guarded.guard.kill()
    guarded.guard.wait(PATIENCE_S)
    assert not psutil.wait_procs([jvm], timeout=PATIENCE_S)[1]


@pytest.mark.parametrize(("command", "status"), [(["true"], 0), (["sh", "-c", "kill -9 $$"], 1)])
def test_a_guard_ends_as_its_command_does(command: list[str], status: int) -> None:
    made = Guarded(command)
    assert made.guard.wait(PATIENCE_S) == status
    made.end()


def test_a_session_that_forks_while_it_is_killed_is_killed_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, killed = iter([[10], [10, 11], [10, 11]]), []
    monkeypatch.setattr(psutil, "pids", lambda: next(seen))
    monkeypatch.setattr(os, "getsid", lambda pid: 10)
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    assert processes.kill_session(10) == [10, 11]
    assert killed == [(10, signal.SIGKILL), (11, signal.SIGKILL)]


async def test_while_torchserve_is_silent_loaded_workers_serve_and_loads_wait(rig: Rig) -> None:
    assert (await ask(rig)).status_code == 200
    rig.lifecycle.torchserve_silent("the management API does not answer")
    health = (await rig.client.get("/health")).json()
    assert (health["status"], health["ready"], health["torchserve"]) == ("degraded", True, False)
    assert health["torchserve_fault"] == "the management API does not answer"
    assert (await ask(rig)).status_code == 200
    waiting = asyncio.create_task(ask(rig, TRANSLATION))
    await rig.until(lambda: rig.lifecycle.view(TRANSLATION).phase == "start")
    assert len(rig.torchserve.registered) == 1
    rig.lifecycle.torchserve_heard()
    assert (await waiting).status_code == 200
    health = (await rig.client.get("/health")).json()
    assert (health["status"], health["torchserve"], health["torchserve_fault"]) == ("ok", True, None)


async def test_a_torchserve_that_hangs_does_not_stop_the_beat(rig: Rig) -> None:
    assert (await ask(rig)).status_code == 200
    entry = rig.lifecycle._table.named(CHAT)
    rig.torchserve.may_answer.clear()
    worker_set = entry.worker_set
    object.__setattr__(worker_set, "workers", 2)
    async with asyncio.timeout(5):
        await rig.lifecycle.reconcile()
        await rig.lifecycle.reconcile()
    rig.torchserve.may_answer.set()


async def test_a_load_that_cannot_reach_torchserve_says_so_once(rig: Rig) -> None:
    rig.state.management_socket.rename(rig.state.run / "away")
    with structlog.testing.capture_logs() as lines:
        waiting = asyncio.create_task(ask(rig))
        told = [line for line in lines if line["event"] == "torchserve_lost_set"]
        async with asyncio.timeout(PATIENCE_S):
            while len(told) < 1 or rig.lifecycle._table.named(CHAT).load.registered:
                await asyncio.sleep(0.3)  # longer than the pause between two attempts
                told = [line for line in lines if line["event"] == "torchserve_lost_set"]
        (rig.state.run / "away").rename(rig.state.management_socket)
        assert (await waiting).status_code == 200
    assert len([line for line in lines if line["event"] == "torchserve_lost_set"]) == 1
