"""TorchServe alone, started as in the README, beside a `conductor serve` in the same shell."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from archives.build import build_rows, write_config
from archives.build_context import BuildContext
from conductor_core.paths import ProjectPaths
from conductor_core.settings.parser import load_settings
from tests.e2e.listeners import (
    INFERENCE,
    MANAGEMENT,
    as_nobody,
    grpc_status,
    predictions_message,
    register_message,
)
from tests.serving import serving
from tests.sure import CONVERSATION
from tests.torchserve_process import ROOT, short_folder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

START_S = 90
GREEDY = {"prompt": "Name three colours.", "temperature": 0.0, "max_tokens": 24}
SURE = {"messages": CONVERSATION, "temperature": 0.0, "max_tokens": 24}


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; TorchServe takes no port 0."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Alone:
    """`torchserve --start` in a folder with archives and a config.properties of its own ports."""

    def __init__(self, folder: Path) -> None:
        catalogue = load_settings(ROOT / "SETTINGS.md")
        build_rows(catalogue, folder / "store", BuildContext(ProjectPaths.at(ROOT / "SETTINGS.md")))
        self.config = folder / "config.properties"
        shutil.copyfile(ROOT / "config.properties", self.config)
        write_config(catalogue, self.config)
        text = self.config.read_text(encoding="utf-8").replace("archives/store", str(folder / "store"))
        ports = dict(zip(("8080", "8081", "8082", "7070", "7071"), map(str, free_ports(5)), strict=True))
        self.config.write_text(re.sub("|".join(ports), lambda m: ports[m[0]], text), encoding="utf-8")
        self.url = f"http://127.0.0.1:{ports['8080']}"
        self.management = f"http://127.0.0.1:{ports['8081']}"
        self.grpc = [int(ports[name]) for name in ("7070", "7071")]
        self.log = folder / "torchserve.log"
        self.environment = {**os.environ, "TS_CONFIG_FILE": str(self.config)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["torchserve", "--start", "--foreground", "--ncs"],
                cwd=folder,
                env={**self.environment, "TMPDIR": str(folder), "TEMP": str(folder)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_it_answers(self) -> None:
        """Wait until the model answers; fail at once with the log if TorchServe has ended."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
            try:
                if self.post({**GREEDY, "max_tokens": 1}).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.2)
        raise AssertionError(self.log.read_text(encoding="utf-8"))

    def post(self, body: dict[str, object], category: str = "conversational_chat") -> httpx2.Response:
        return httpx2.post(f"{self.url}/predictions/{category}", json=body, timeout=60)

    def end(self) -> None:
        below = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        self.process.wait(30)
        for process in psutil.wait_procs(below, timeout=10)[1]:
            process.kill()


@pytest.fixture(scope="module")
def alone() -> Iterator[Alone]:
    with short_folder() as folder:
        server = Alone(folder)
        try:
            server.wait_until_it_answers()
            yield server
        finally:
            server.end()


def test_a_resident_row_answers_and_streams(alone: Alone) -> None:
    whole = alone.post(SURE)
    assert whole.status_code == 200
    streamed = alone.post({**SURE, "stream": True})
    *records, last = map(json.loads, streamed.text.splitlines())
    assert "".join(record["delta"] for record in records) == whole.json()["text"] == last["done"]["text"]


def curl(*arguments: str, body: str) -> dict[str, Any]:
    """The JSON that curl prints."""
    command = ["curl", "-sS", *arguments]
    done = subprocess.run(command, input=body, capture_output=True, text=True, timeout=60, check=True)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(
    "how", [("-T", "-", "-X", "POST"), ("-H", "content-type: application/json", "-d", "@-")]
)
def test_curl_as_torchserve_users_type_it_is_answered(alone: Alone, how: tuple[str, ...]) -> None:
    assert curl(f"{alone.url}/predictions/conversational_chat", *how, body=json.dumps(GREEDY))["text"]


def test_a_form_is_refused_with_the_content_type_to_send(alone: Alone) -> None:
    answer = curl(f"{alone.url}/predictions/conversational_chat", "-d", "@-", body=json.dumps(GREEDY))
    assert "content-type: application/json" in answer["error"]["message"]


def test_another_engine_is_named_in_the_body(alone: Alone) -> None:
    assert alone.post({**GREEDY, "engine": "general_reasoning"}).json()["text"]
    refused = alone.post({**GREEDY, "engine": "nope"})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "engine"


def test_a_row_that_is_not_resident_is_not_loaded(alone: Alone) -> None:
    assert alone.post(GREEDY, "translation").status_code == 404


def of_another_user(alone: Alone, evil: Path) -> dict[str, Any]:
    """Results of a caller's attempts by REST and gRPC to infer, list, scale, register and remove."""
    chat = f"{alone.management}/models/conversational_chat"
    rest = {
        "ask": alone.post({**GREEDY, "max_tokens": 1}),
        "list": httpx2.get(f"{alone.management}/models"),
        "scale": httpx2.put(f"{chat}?min_worker=1&max_worker=1"),
        "register": httpx2.post(f"{alone.management}/models?url={evil}&initial_workers=1"),
        "remove": httpx2.delete(chat),
    }
    calls = {
        "grpc ask": (INFERENCE + "Predictions", predictions_message("nowhere")),
        "grpc list": (MANAGEMENT + "ListModels", b""),
        "grpc register": (MANAGEMENT + "RegisterModel", register_message(str(evil))),
        "grpc remove": (MANAGEMENT + "UnregisterModel", b"\x0a\x13conversational_chat"),
    }
    grpc = {name: sorted(grpc_statuses(alone, *call)) for name, call in calls.items()}
    return {**{name: answer.status_code for name, answer in rest.items()}, **grpc}


def grpc_statuses(alone: Alone, method: str, message: bytes) -> list[str]:
    found = []
    for port in alone.grpc:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            found.append(grpc_status(connection, method, message))
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_may_do_what_the_readme_says_and_no_more(alone: Alone, tmp_path: Path) -> None:
    found = as_nobody(lambda: of_another_user(alone, tmp_path))
    assert found == {
        **{"ask": 200, "list": 200, "scale": 202, "register": 405, "remove": 405},
        **{"grpc ask": ["12", "13"], "grpc list": ["0", "12"]},
        **{"grpc register": ["12", "7"], "grpc remove": ["12", "7"]},
    }
    assert alone.post(GREEDY).status_code == 200


def test_conductor_serve_runs_beside_it_from_the_same_shell(alone: Alone, tmp_path: Path) -> None:
    with serving(tmp_path / "state", TS_CONFIG_FILE=str(alone.config)) as gateway:
        gateway.wait_until_ready()
        with gateway.client() as client:
            assert client.post("/generate", json=SURE).json()["text"] == alone.post(SURE).json()["text"]
    assert alone.post(GREEDY).status_code == 200
