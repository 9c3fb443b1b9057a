"""A worker process of the real TorchServe: access to it, and its end."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.contract.stub_archive import write_archive
from tests.handlers.scripted_source import script
from tests.signals import Signal
from tests.torchserve_process import TorchServe, torchserve

LIMIT_S = 60


@pytest.fixture(scope="module")
def server() -> Iterator[TorchServe]:
    with torchserve() as server:
        answer = server.register(write_archive(server.folder / "archives", "chat"))
        assert answer.status_code == 200, answer.text + server.log.read_text()
        yield server


def worker_client(server: TorchServe, pid: int) -> httpx2.AsyncClient:
    transport = httpx2.AsyncHTTPTransport(uds=str(server.run_dir / f"{pid}.sock"))
    return httpx2.AsyncClient(transport=transport, base_url="http://worker", timeout=LIMIT_S)


def body(*steps: list[Any]) -> dict[str, Any]:
    return {"id": "r1", "engine": "any", "prompt": script(*steps)}


def streamed(client: httpx2.AsyncClient, *steps: list[Any]) -> AbstractAsyncContextManager[httpx2.Response]:
    return client.stream("POST", "/generate", json=body(*steps))


async def drain(lines: AsyncIterator[str]) -> None:
    async for line in lines:
        assert "delta" in orjson.loads(line)


@pytest.fixture
async def pid(server: TorchServe) -> int:
    async with asyncio.timeout(LIMIT_S):
        return await serving(server)


async def serving(server: TorchServe) -> int:
    while True:
        for pid in server.worker_pids("chat"):
            with socket.socket(socket.AF_UNIX) as attempt:
                if attempt.connect_ex(str(server.run_dir / f"{pid}.sock")) == 0:
                    return pid
        await asyncio.sleep(0.1)


def wait_for_end(pid: int) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], LIMIT_S)[0])
    finally:
        os.close(handle)


async def test_a_killed_worker_closes_its_streams_and_torchserve_brings_it_back(
    server: TorchServe, pid: int
) -> None:
    async with asyncio.timeout(LIMIT_S):
        async with worker_client(server, pid) as client, streamed(client, ["forever"]) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(httpx2.RemoteProtocolError):
                await drain(lines)
        back = await serving(server)
        async with worker_client(server, back) as client:
            assert (await client.get("/health")).json()["pid"] == back


async def test_a_client_that_leaves_stops_the_generation(
    server: TorchServe, pid: int, tmp_path: Path
) -> None:
    left = Signal(tmp_path / "left")
    async with asyncio.timeout(LIMIT_S), worker_client(server, pid) as client:
        steps = ["tell", str(left.path)], ["forever"]
        async with streamed(client, *steps) as answer:
            await anext(answer.aiter_lines())
        await left.wait()
        assert (await client.get("/health")).json()["running"] == 0
    left.close()


async def test_a_worker_whose_runtime_failed_ends_itself_and_comes_back(server: TorchServe, pid: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        async with worker_client(server, pid) as client:
            answer = await client.post("/generate", json=body(["fatal"]))
            assert orjson.loads(answer.text)["error"]["code"] == "worker_failed"
        assert await asyncio.to_thread(wait_for_end, pid)
        notice = orjson.loads((server.run_dir / f"{pid}.error").read_bytes())
        assert (notice["set"], notice["pid"], notice["error"]) == ("chat", pid, "fatal as the script says")
        assert await serving(server) != pid


async def test_a_call_to_torchserve_alone_gets_the_failure_of_the_runtime(server: TorchServe) -> None:
    async with server.async_client("inference") as client, asyncio.timeout(LIMIT_S):
        answer = await client.post("/predictions/chat", json={"prompt": script(["fatal"])})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "worker_failed")


def test_what_a_library_prints_goes_to_a_file_of_the_worker(server: TorchServe) -> None:
    prints = (
        "import os; os.system('echo from below'); print('from python'); " + "return ScriptedSource(on_fatal)"
    )
    assert (
        server.register(write_archive(server.folder / "archives", "chatty", load=prints)).status_code == 200
    )
    (pid,) = server.worker_pids("chatty")
    assert (server.folder / "logs" / f"chatty-{pid}.log").read_text() == "from below\nfrom python\n"


def test_a_failed_load_leaves_its_last_line_and_traceback(server: TorchServe) -> None:
    fails = "raise FileNotFoundError('no weights here')"
    assert server.register(write_archive(server.folder / "archives", "lost", load=fails)).status_code == 500
    found = [orjson.loads(path.read_bytes()) for path in server.run_dir.glob("*.error")]
    notices = [notice for notice in found if notice["set"] == "lost"]
    assert {notice["error"] for notice in notices} == {"FileNotFoundError: no weights here"}
    assert "in load" in notices[0]["traceback"]
    assert "no weights here" in server.log.read_text()


# The last test of the file, because it ends TorchServe.
def test_a_worker_ends_when_its_torchserve_is_killed(server: TorchServe, pid: int) -> None:
    server.process.kill()
    server.process.wait()
    assert wait_for_end(pid)
    assert not (server.run_dir / f"{pid}.sock").exists()
