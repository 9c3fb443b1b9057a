"""The gateway killed by SIGKILL at bad moments: the next one on its state directory replaces all."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest

from conductor_core.paths import StateDir
from tests.e2e.faults import (
    CHAT,
    VICTIM,
    ask,
    health,
    new_worker,
    torchserve_of,
    until,
    workers_of,
    write_settings,
)
from tests.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

HONEST = {"worker_died", "model_loading", "model_load_failed", "server_overloaded"}


def kill(server: Serving) -> list[psutil.Process]:
    """Kill only the gateway; return the processes that it had started."""
    below = server.processes()[1:]
    server.process.kill()
    server.process.wait(10)
    return below


def assert_nothing_else(server: Serving, left: list[psutil.Process]) -> None:
    """Assert that `left` is gone, and that run file and run folder belong to the ready gateway."""
    server.wait_until_ready()
    assert not psutil.wait_procs(left, timeout=5)[1]
    run = json.loads(StateDir.at(server.state).run_file.read_text(encoding="utf-8"))
    assert (run["pid"], run["torchserve"]["pid"]) == (server.process.pid, torchserve_of(server).ppid())
    assert ask(server).status_code == 200
    sockets = {file.stem for file in StateDir.at(server.state).run.glob("[0-9]*.sock")}
    assert sockets == {str(pid) for pid in workers_of(server)}


@pytest.mark.proof  # 55 s; that a killed gateway is replaced at all is in tests/test_integration.py
def test_a_gateway_killed_in_a_load_or_in_a_swap_is_replaced(tmp_path: Path) -> None:
    settings, state = write_settings(tmp_path), tmp_path / "state"
    with serving(state, settings=settings) as first, ThreadPoolExecutor(1) as pool:
        first.wait_until_ready()
        waiter = pool.submit(ask, first, VICTIM)
        new_worker(first, workers_of(first))
        left = kill(first)
        with pytest.raises(httpx2.TransportError):
            waiter.result()
    with serving(state, settings=settings) as second:
        assert_nothing_else(second, left)
        assert ask(second, VICTIM).status_code == 200
        known = workers_of(second)
        write_settings(tmp_path, context=2048)
        new_worker(second, known)
        assert second.model(VICTIM)["context"] == 4096
        left = kill(second)
    with serving(state, settings=settings) as third:
        assert_nothing_else(third, left)
        assert ask(third, VICTIM).status_code == 200
        assert third.model(VICTIM)["context"] == 2048


@pytest.mark.proof
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
def test_kills_at_random_moments_leave_answers_or_honest_refusals(tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed)
    settings = write_settings(tmp_path)
    with serving(tmp_path / "state", settings=settings) as server:
        server.wait_until_ready()
        ends = time.monotonic() + 90
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(keep_asking, server, ends, seed * 10 + n) for n in range(4)]
            while time.monotonic() < ends:
                time.sleep(chosen.uniform(0.5, 8))
                kill_one(server, chosen)
            outcomes = [outcome for one in asking for outcome in one.result()]
        print(f"\n{len(outcomes)} asked, {outcomes.count('ok')} answered, else {set(outcomes) - {'ok'}}")
        assert set(outcomes) <= {"ok", *HONEST}
        assert outcomes.count("ok") > 0
        with server.client() as client:
            for category in (CHAT, VICTIM):
                assert client.post(f"/admin/models/{category}/load").status_code == 200
        until("health", lambda: health(server)[1]["status"] == "ok")
        loaded = {w["pid"] for name in (CHAT, VICTIM) for w in server.model(name)["workers"]}
        until("end of all others", lambda: set(workers_of(server)) == loaded)


def kill_one(server: Serving, chosen: random.Random) -> None:
    """Send SIGKILL to TorchServe or to one of the workers, in any state."""
    victims = [torchserve_of(server).pid] if chosen.random() < 0.2 else workers_of(server)
    if victims:
        try:
            os.kill(chosen.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            return


def keep_asking(server: Serving, ends: float, seed: int) -> list[str]:
    """Send many requests; collect `ok` or the code of the refusal of each."""
    chosen, outcomes = random.Random(seed), []
    while time.monotonic() < ends:
        answer = ask(server, chosen.choice((CHAT, VICTIM)), max_tokens=chosen.choice((4, 200)))
        refused = answer.status_code != 200
        outcomes.append(answer.json()["error"]["code"] if refused else "ok")
    return outcomes
