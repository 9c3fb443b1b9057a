"""A worker's HTTP interface over a real Unix socket."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from handlers.wire import WIRE_VERSION
from handlers.worker.process import WorkerServer
from handlers.worker_config import WorkerConfig
from tests.handlers.scripted_source import ScriptedSource, script
from tests.handlers.test_worker_config import MAPPING
from tests.signals import Signal
from tests.torchserve_process import short_folder

LIMIT_S = 20


class Bench:
    """A worker in this process; an event replaces its end."""

    def __init__(self, run_dir: Path) -> None:
        self.ended = threading.Event()
        self.run_dir = run_dir
        self.worker = WorkerServer(
            WorkerConfig.from_yaml(MAPPING), self._load, run_dir, lambda _: self.ended.set()
        )

    def _load(self, config: WorkerConfig, on_fatal: Callable[[str], None]) -> ScriptedSource:
        self.source = ScriptedSource(on_fatal)
        return self.source

    @property
    def socket(self) -> Path:
        return self.run_dir / f"{os.getpid()}.sock"


@pytest.fixture
def bench() -> Iterator[Bench]:
    with short_folder() as folder:
        bench = Bench(folder)
        bench.worker.start()
        yield bench
        bench.worker.stop()


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.AsyncHTTPTransport(uds=str(bench.socket))
    async with httpx2.AsyncClient(transport=transport, base_url="http://worker", timeout=LIMIT_S) as client:
        yield client


@pytest.fixture
def signal(tmp_path: Path) -> Iterator[Signal]:
    signal = Signal(tmp_path / "signal")
    yield signal
    signal.close()


def body(*steps: list[Any], **fields: Any) -> dict[str, Any]:
    return {"id": "r1", "engine": "any", "prompt": script(*steps), **fields}


async def generate(client: httpx2.AsyncClient, *steps: list[Any]) -> list[dict[str, Any]]:
    answer = await client.post("/generate", json=body(*steps))
    assert answer.status_code == 200
    return [orjson.loads(line) for line in answer.text.splitlines()]


async def records_of(answer: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        yield orjson.loads(line)


async def test_an_answer_is_deltas_and_one_done(client: httpx2.AsyncClient) -> None:
    records = await generate(client, ["say", "Guten "], ["say", "Tag"])
    assert "".join(r["delta"] for r in records[:-1]) == "Guten Tag"
    assert records[-1]["done"]["text"] == "Guten Tag"


async def test_the_first_delta_comes_while_the_answer_is_still_being_made(
    client: httpx2.AsyncClient, signal: Signal
) -> None:
    steps = ["say", "first"], ["wait", str(signal.path)], ["say", " last"]
    async with asyncio.timeout(LIMIT_S), client.stream("POST", "/generate", json=body(*steps)) as answer:
        records = records_of(answer)
        assert await anext(records) == {"delta": "first"}
        signal.send()
        rest = [record async for record in records]
    assert rest[-1]["done"]["text"] == "first last"


async def test_a_refusal_is_an_error_record_with_its_status(client: httpx2.AsyncClient) -> None:
    (record,) = await generate(client, ["refuse"])
    assert record == {
        "error": {
            "message": "refused as the script says",
            "type": "invalid_request_error",
            "param": "prompt",
            "code": "scripted",
            "status": 400,
            "retry_after_s": None,
        }
    }


async def test_a_defect_is_an_error_record_and_the_next_request_is_answered(
    client: httpx2.AsyncClient,
) -> None:
    *deltas, last = await generate(client, ["say", "so far"], ["break"])
    assert deltas == [{"delta": "so far"}]
    assert (last["error"]["status"], last["error"]["code"]) == (500, "internal_error")
    assert "done" in (await generate(client, ["say", "well"]))[-1]


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (b'{"id":"1","engine":"e","prompt":"\xff"}', None),
        (b'{"id":"1","engine":"e","prompt":"\\ud800"}', None),
        (b'{"id":"1","engine":"e","prompt":"x","sampling":{"temperature":NaN}}', None),
        (b'{"id":"1","engine":"e","prompt":"x","sampling":{"temperature":"hot"}}', "sampling.temperature"),
        (b'{"id":"1","engine":"e","prompt":"secret","colour":1}', "colour"),
        (b'{"id":"1","engine":"e"}', None),
        (b"[" * 100_000, None),
    ],
)
async def test_a_wrong_body_is_an_error_record_that_never_shows_the_prompt(
    client: httpx2.AsyncClient, content: bytes, param: str | None
) -> None:
    answer = await client.post("/generate", content=content)
    (line,) = answer.text.splitlines()
    error = orjson.loads(line)["error"]
    assert (answer.status_code, error["status"], error["param"]) == (200, 400, param)
    assert "secret" not in line


async def test_a_client_that_leaves_mid_stream_ends_its_request_alone(
    bench: Bench, client: httpx2.AsyncClient, signal: Signal, tmp_path: Path
) -> None:
    stay = Signal(tmp_path / "stay")
    async with asyncio.timeout(LIMIT_S):
        neighbour = asyncio.create_task(
            generate(client, ["meet", 2], ["wait", str(stay.path)], ["say", "ok"])
        )
        steps = ["meet", 2], ["tell", str(signal.path)], ["forever"]
        async with client.stream("POST", "/generate", json=body(*steps)) as answer:
            assert "delta" in await anext(records_of(answer))
        await signal.wait()
        stay.send()
        assert (await neighbour)[-1]["done"]["text"] == "ok"
    assert bench.source.runtime.running == 0
    stay.close()


async def test_a_client_that_leaves_before_the_first_piece_ends_its_request(
    client: httpx2.AsyncClient, signal: Signal, tmp_path: Path
) -> None:
    begun, never = Signal(tmp_path / "begun"), Signal(tmp_path / "never")
    async with asyncio.timeout(LIMIT_S):
        neighbour = asyncio.create_task(generate(client, ["meet", 2], ["say", "ok"]))
        steps = ["tell", str(signal.path)], ["meet", 2], ["wait", str(never.path)]
        leaver = asyncio.create_task(client.post("/generate", json=body(*steps)))
        assert (await neighbour)[-1]["done"]["text"] == "ok"
        leaver.cancel()
        await signal.wait()
    begun.close()
    never.close()


async def test_health_says_what_the_worker_is(bench: Bench, client: httpx2.AsyncClient) -> None:
    state = (await client.get("/health")).json()
    assert state.pop("memory") > 1_000_000
    loop = state.pop("loop")  # on a busy machine a step may be told that only waited
    assert (loop["held"] == 0) == (loop["longest_s"] == 0.0)
    assert state == {
        "wire": WIRE_VERSION,
        "set": "chat",
        "version": "0123456789ab",
        "weights": "pypi:demo==1/model.gguf",
        "runtime": "openvino",
        "device": "cpu",
        "precision": "Q4_1",
        "pid": os.getpid(),
        "context": 100,
        "running": 0,
        "waiting": 0,
        "kv_usage": None,
        "last_error": None,
    }


async def test_when_the_runtime_fails_every_request_gets_an_error_record_and_the_process_ends(
    bench: Bench, client: httpx2.AsyncClient, signal: Signal
) -> None:
    waiting = ["say", "a"], ["meet", 2], ["wait", str(signal.path)]
    async with asyncio.timeout(LIMIT_S):
        answers = await asyncio.gather(
            generate(client, *waiting), generate(client, ["meet", 2], ["say", "b"], ["fatal"])
        )
        assert await asyncio.to_thread(bench.ended.wait, LIMIT_S)
    for deltas_and_last in answers:
        errors = [record["error"] for record in deltas_and_last if "error" in record]
        assert [(e["code"], e["status"]) for e in errors] == [("worker_failed", 500)]
        assert "fatal as the script says" in errors[0]["message"]
    notice = orjson.loads((bench.run_dir / f"{os.getpid()}.error").read_bytes())
    assert (notice["set"], notice["error"]) == ("chat", "fatal as the script says")
    assert not bench.socket.exists()


def test_the_socket_is_there_with_start_and_gone_with_stop() -> None:
    with short_folder() as folder:
        bench = Bench(folder)
        assert not list(folder.iterdir())
        bench.worker.start()
        assert list(folder.iterdir()) == [bench.socket]
        bench.worker.stop()
        assert not list(folder.iterdir())


async def test_a_process_that_exits_has_no_thread_of_the_loop_left(bench: Bench) -> None:
    await asyncio.to_thread(bench.worker.leave)
    assert "worker-loop" not in {thread.name for thread in threading.enumerate()}
    assert not bench.socket.exists()
    assert not bench.ended.is_set()


async def test_a_request_without_end_keeps_no_process_from_its_exit(
    bench: Bench, client: httpx2.AsyncClient, signal: Signal
) -> None:
    steps = ["say", "first"], ["wait", str(signal.path)]
    async with asyncio.timeout(LIMIT_S), client.stream("POST", "/generate", json=body(*steps)) as answer:
        records = records_of(answer)
        await anext(records)
        await asyncio.to_thread(bench.worker.leave)
        assert bench.ended.is_set()
        signal.send()
        assert "done" in [record async for record in records][-1]


def test_a_stale_socket_of_the_same_pid_is_replaced() -> None:
    with short_folder() as folder:
        bench = Bench(folder)
        bench.socket.touch()
        bench.worker.start()
        assert bench.socket.is_socket()
        bench.worker.stop()
