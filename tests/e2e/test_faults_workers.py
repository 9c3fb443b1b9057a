"""Workers and TorchServe killed, stopped and starved of memory under a real gateway: wanted sets come back.

One server for all tests here, with a resident model that faults of the other one must not disturb.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import psutil
import pytest

from tests.e2e.faults import (
    CHAT,
    LONG,
    VICTIM,
    ask,
    at_work_on_each_new_worker,
    health,
    left_of,
    new_worker,
    registered,
    torchserve_of,
    until,
    workers_of,
    write_settings,
)
from tests.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

LOAD_TIMEOUT_S = "25"
LIBRARY = "libopenvino_genai.so"
SPARE = 16 * 2**20  # bytes of address space that a starved worker may still take


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("faults")
    settings = write_settings(folder)
    with serving(folder / "state", settings=settings, CONDUCTOR_LOAD_TIMEOUT=LOAD_TIMEOUT_S) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture
def neighbour(gateway: Serving) -> Iterator[int]:
    """The resident model's worker, which must be the same before and after the test."""
    (worker,) = gateway.wait_for_model(CHAT, state="READY")["workers"]
    yield int(worker["pid"])
    (after,) = gateway.model(CHAT)["workers"]
    assert after["pid"] == worker["pid"]
    assert ask(gateway).status_code == 200


def starve(pid: int) -> None:
    """Limit the process to hardly more address space than it has."""
    process = psutil.Process(pid)
    process.rlimit(resource.RLIMIT_AS, (process.memory_info().vms + SPARE,) * 2)


def test_a_load_out_of_memory_is_tried_twice_and_told(gateway: Serving, neighbour: int) -> None:
    with at_work_on_each_new_worker(gateway, starve, maps=LIBRARY) as starved:
        answer = ask(gateway, VICTIM)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, "insufficient_memory")
    assert int(answer.headers["retry-after"]) >= 1
    assert len(starved) >= 2  # TorchServe may have begun one more before it was told to stop
    assert "\n" not in error["message"]
    model = gateway.model(VICTIM)
    assert (model["state"], model["workers"]) == ("FAILED", [])
    assert model["last_error"] in error["message"]
    assert 0 < model["retry_after_s"] <= 10
    assert health(gateway)[1]["status"] == "degraded"
    assert not registered(gateway, VICTIM)
    assert left_of(gateway, starved) == []
    assert workers_of(gateway) == [neighbour]
    again = ask(gateway, VICTIM)
    assert (again.status_code, workers_of(gateway)) == (503, [neighbour])
    with gateway.client() as client:
        assert client.post(f"/admin/models/{VICTIM}/load").status_code == 200
    assert ask(gateway, VICTIM).status_code == 200
    assert health(gateway)[1]["status"] == "ok"


@pytest.mark.parametrize(
    "when", [pytest.param("", marks=pytest.mark.proof), LIBRARY], ids=["at its start", "in the middle"]
)
def test_a_load_that_hangs_fails_at_its_timeout_and_the_next_one_works(
    gateway: Serving, neighbour: int, when: str
) -> None:
    with gateway.client() as client, ThreadPoolExecutor(1) as pool:
        client.post(f"/admin/models/{VICTIM}/unload")
        answer = pool.submit(ask, gateway, VICTIM)
        hung = new_worker(gateway, [neighbour], maps=when)
        os.kill(hung, signal.SIGSTOP)
        assert ask(gateway).status_code == 200
        assert health(gateway, "/health/live")[0] == 200
        error = answer.result().json()["error"]
        assert error["code"] == "model_load_failed"
        assert "no worker answered within" in error["message"]
        assert not registered(gateway, VICTIM)
        assert left_of(gateway, [hung]) == []
        assert workers_of(gateway) == [neighbour]
        assert client.post(f"/admin/models/{VICTIM}/load").status_code == 200


def test_a_worker_that_is_killed_again_and_again_comes_back_when_that_ends(gateway: Serving) -> None:
    gateway.wait_for_model(CHAT, state="READY")
    killed = []
    for _ in range(2):
        (pid,) = [w["pid"] for w in gateway.wait_for_model(CHAT, state="READY")["workers"]]
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)
        model = until("loss", lambda: None if (m := gateway.model(CHAT))["state"] == "READY" else m)
        assert (model["state"], model["phase"]) == ("LOADING", "restart")
        assert health(gateway, "/health/ready")[0] == 503
    gateway.wait_for_model(CHAT, state="READY")
    assert ask(gateway).status_code == 200
    assert left_of(gateway, killed) == []


def test_a_killed_torchserve_is_replaced_with_all_that_was_loaded(gateway: Serving) -> None:
    for category in (CHAT, VICTIM):
        assert ask(gateway, category).status_code == 200
    old = [torchserve_of(gateway), *map(psutil.Process, workers_of(gateway))]
    with gateway.client() as client, client.stream("POST", "/generate/stream", json=LONG) as stream:
        lines = stream.iter_lines()
        next(lines)
        old[0].kill()
        last = [line for line in lines if line.startswith("data: ")][-1]
    assert orjson.loads(last.removeprefix("data: "))["error"]["code"] == "worker_died"
    status, told = health(gateway)
    assert (status, told["ready"], told["status"]) == (200, False, "loading")
    answer = ask(gateway, VICTIM)
    assert answer.status_code == 200, answer.text
    gateway.wait_until_ready()
    assert ask(gateway).status_code == 200
    assert not psutil.wait_procs(old, timeout=5)[1]
    loaded = {w["pid"] for category in (CHAT, VICTIM) for w in gateway.model(category)["workers"]}
    assert set(workers_of(gateway)) == loaded
