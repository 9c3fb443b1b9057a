"""TorchServe is reachable only for its gateway, is replaced if it hangs, and ends with the gateway."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from conductor_core.paths import StateDir
from tests.e2e.faults import until
from tests.e2e.listeners import (
    INFERENCE,
    MANAGEMENT,
    Listener,
    as_nobody,
    grpc_status,
    listeners,
    predictions_message,
    register_message,
)
from tests.serving import Serving, serving
from tests.torchserve_process import ROOT, short_folder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CHAT = "conversational_chat"
SECRET = "the secret that no worker may see 4711"
SECRETS = dict.fromkeys(("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "NVIDIA_API_KEY", "SOMETHING_ELSE"), SECRET)
NOT_FOUND, DENIED, UNIMPLEMENTED, INTERNAL = "5", "7", "12", "13"
EVIL = """
class Handler:
    def initialize(self, context):
        open({canary!r}, "w").close()

    def handle(self, data, context):
        return data
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Serving]:
    with (
        short_folder() as folder,
        serving(folder / "state", settings=ROOT / "SETTINGS.md", **SECRETS) as server,
    ):
        server.wait_until_ready()
        yield server


@pytest.fixture
def evil() -> Iterator[Path]:
    """An archive folder that belongs to `nobody`; its handler writes `canary` beside it."""
    with short_folder() as folder:
        archive = folder / "evil"
        (archive / "MAR-INF").mkdir(parents=True)
        model = {"modelName": "evil", "modelVersion": "1", "handler": "evilh.py"}
        manifest = {"createdOn": "", "runtime": "python", "archiverVersion": "1", "model": model}
        (archive / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
        (archive / "evilh.py").write_text(EVIL.format(canary=str(folder / "canary")))
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777)
        yield archive


def all_listeners(server: Serving) -> tuple[list[Listener], list[Listener]]:
    """Sockets of the gateway itself, and those of everything below it."""
    found = listeners(process.pid for process in server.processes())
    mine = [one for one in found if one.pid == server.process.pid]
    return mine, [one for one in found if one.pid != server.process.pid]


def attempts(below: list[Listener], evil: Path) -> dict[str, list[str]]:
    """Results of a caller's attempts at each of the sockets."""
    calls = (
        (MANAGEMENT + "RegisterModel", register_message(str(evil))),
        (INFERENCE + "Predictions", predictions_message(CHAT)),
    )
    return {str(one): [attempt(one, *call) for call in calls] for one in below}


def attempt(one: Listener, method: str, message: bytes, key: str | None = None) -> str:
    try:
        with one.connect() as connection:
            return grpc_status(connection, method, message, key)
    except PermissionError:
        return DENIED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_gets_nothing_at_any_socket(gateway: Serving, evil: Path) -> None:
    mine, below = all_listeners(gateway)
    assert [one.port for one in mine] == [int(gateway.url.rpartition(":")[2])]
    assert sum(bool(one.path) for one in below) >= 4  # two of TorchServe, two of its worker
    grpc = [one for one in below if not one.path]
    assert len(grpc) == 2
    outcomes = as_nobody(lambda: attempts(below, evil))
    assert {outcome for each in outcomes.values() for outcome in each} == {DENIED, UNIMPLEMENTED}
    assert [sorted(outcomes[str(one)]) for one in grpc] == [[UNIMPLEMENTED, DENIED]] * 2
    assert not (evil.parent / "canary").exists()
    assert as_nobody(lambda: readable(gateway.state)) == []


def readable(state: Path) -> list[str]:
    """Files and folders of a state directory that the caller can open."""
    paths = StateDir.at(state)
    return [str(path) for path in (paths.torchserve_keys, paths.run, paths.root) if os.access(path, os.R_OK)]


def test_the_calls_that_are_refused_are_answered_with_the_right_key(gateway: Serving) -> None:
    _, below = all_listeners(gateway)
    keys = json.loads(StateDir.at(gateway.state).torchserve_keys.read_text())
    calls = (
        ("management", NOT_FOUND, MANAGEMENT + "RegisterModel", register_message("nowhere.mar")),
        ("inference", INTERNAL, INFERENCE + "Predictions", predictions_message("nowhere")),
    )
    for api, answer, method, message in calls:
        key = keys[api]["key"]
        found = {attempt(one, method, message, key) for one in below if not one.path}
        assert found == {answer, UNIMPLEMENTED}
        wrong = {attempt(one, method, message, key[::-1]) for one in below if not one.path}
        assert wrong == {DENIED, UNIMPLEMENTED}


def test_no_process_below_the_gateway_sees_its_secrets(gateway: Serving) -> None:
    below = gateway.torchserve()
    assert len(below) >= 3
    for process in below:
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert SECRET.encode() not in environment
        assert b"\0PATH=" in b"\0" + environment


def jvm(server: Serving) -> psutil.Process:
    """TorchServe itself, below its guard."""
    (found,) = (p for p in server.torchserve() if p.name() == "java")
    return found


def health(server: Serving) -> dict[str, Any]:
    with server.client() as client:
        return dict(client.get("/health").json())


def ask(server: Serving) -> int:
    with server.client() as client:
        return client.post("/generate", json={"prompt": "Hi", "max_tokens": 4}).status_code


@contextmanager
def replaced(server: Serving) -> Iterator[psutil.Process]:
    """Block that makes TorchServe hang; the gateway must report it, serve on, and replace it."""
    server.wait_until_ready()
    old, everybody = jvm(server), server.torchserve()
    yield old
    told = until("silence", lambda: (found := health(server))["torchserve_fault"] and found)
    assert (told["status"], told["torchserve"], told["ready"]) == ("degraded", False, True)
    assert ask(server) == 200
    until("end of the old one", lambda: not old.is_running())
    assert not psutil.wait_procs(everybody, timeout=10)[1]
    server.wait_until_ready()
    assert jvm(server).pid != old.pid
    assert ask(server) == 200
    assert health(server)["status"] == "ok"


def test_a_stopped_jvm_is_told_of_and_replaced(gateway: Serving) -> None:
    with replaced(gateway) as old:
        old.send_signal(signal.SIGSTOP)


def test_a_torchserve_without_its_sockets_is_told_of_and_replaced(gateway: Serving) -> None:
    with replaced(gateway):
        for name in ("management.sock", "inference.sock"):
            (StateDir.at(gateway.state).run / name).unlink()


def test_a_gateway_that_is_killed_takes_everything_with_it() -> None:
    with short_folder() as folder, serving(folder / "state") as server:
        server.wait_until_ready()
        left = server.processes()[1:]
        assert {"java"} < {process.name() for process in left}
        server.process.kill()
        assert not psutil.wait_procs(left, timeout=5)[1]
