"""Runs a bench: two children and the processes of a gateway, turn by turn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from conductor.bench.children import BenchChild, ServedProcesses
from conductor.bench.plan import SIDES, BenchPlan, BenchTurn, Side
from conductor.bench.report import Comparison, Sample, Stream, compare
from conductor.bench.target import CLIENT, BenchTarget
from conductor.client import GatewayClient
from conductor.errors import CommandError

Report = Callable[[BenchTurn], None]


def run(plan: BenchPlan, target: BenchTarget, gateway: GatewayClient, report: Report) -> list[Comparison]:
    """Measure every turn of `plan`, calling `report` before each. Raises CommandError if a side fails."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conductor-bench-")))
        client_log, direct_log = (
            stack.enter_context(open(folder / f"{name}.log", "wb")) for name in ("client", "direct")
        )
        address = {
            "host": gateway.host,
            "port": gateway.port,
            "category": target.category,
            "headers": gateway.headers,
        }
        client = stack.enter_context(BenchChild("client", CLIENT, address, client_log))
        direct = stack.enter_context(
            BenchChild("direct", target.direct_script, target.direct_setup(), direct_log)
        )
        client.ready()
        direct.ready()
        sides = _Sides(target, client, direct, ServedProcesses(worker_pids(gateway, target.category)))
        return measure(plan, sides.take, report)


def worker_pids(gateway: GatewayClient, category: str) -> list[int]:
    """Pids of the workers that serve a row now."""
    return [int(worker["pid"]) for worker in gateway.model(category).get("workers") or ()]


def measure(plan: BenchPlan, take: Callable[[BenchTurn], Sample], report: Report) -> list[Comparison]:
    """The comparison for each number of streams; `take` runs one turn."""
    samples: dict[int, dict[Side, list[Sample]]] = {}
    for turn in plan.turns():
        report(turn)
        sample = take(turn)
        if not turn.is_warm_up:
            samples.setdefault(turn.streams, {side: [] for side in SIDES})[turn.side].append(sample)
    return [compare(streams, sides) for streams, sides in samples.items()]


class _Sides:
    """Runs a turn on its side."""

    def __init__(
        self, target: BenchTarget, client: BenchChild, direct: BenchChild, served: ServedProcesses
    ) -> None:
        self._target = target
        self._client = client
        self._direct = direct
        self._served = served

    def take(self, turn: BenchTurn) -> Sample:
        if turn.side == "direct":
            result = self._direct.turn(self._target.tokenised(turn.prompts), turn.tokens)
            return sample(result["streams"], {"direct": result["cpu_s"]})
        conversations = [self._target.messages(prompt) for prompt in turn.prompts]
        before = self._served.cpu_seconds()
        result = self._client.turn(conversations, turn.tokens)
        after = self._served.cpu_seconds()
        used = {kind: after[kind] - before[kind] for kind in after}
        return sample(result["streams"], {"client": result["cpu_s"], **used})


def sample(streams: Sequence[dict[str, Any]], cpu: dict[str, float]) -> Sample:
    """A child's answer as a sample; CommandError with the first failed stream's message."""
    for stream in streams:
        if "error" in stream:
            raise CommandError(f"a bench request failed: {stream['error']}")
    return Sample(
        tuple(Stream(s["start"], tuple(s["times"]), s["prompt_tokens"], s["tokens"]) for s in streams), cpu
    )
