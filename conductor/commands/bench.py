"""`conductor bench`: the gateway against the library called directly, on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import orjson

from conductor.bench.plan import BenchPlan, BenchTurn
from conductor.bench.report import Comparison, Spread, doubts, to_json
from conductor.bench.runner import run
from conductor.bench.self_serve import own_gateway
from conductor.bench.target import BenchTarget, worker_config
from conductor.client import GatewayClient
from conductor.errors import CommandError, WrongInput
from conductor.options import gateway_of, operator_options, resolve, who_asks
from conductor.tables import show
from conductor_core.operator import OperatorSettings
from conductor_core.paths import StateDir


def _numbers(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*", text):
        raise click.BadParameter(f"expected numbers such as 1,8,32, got {text!r}")
    return tuple(map(int, text.split(",")))


@click.command()
@operator_options("settings", "state_dir")
@click.option("--url", help="Gateway to measure; it must run on this machine. [default: the running one]")
@click.option("--self-serve", is_flag=True, help="Start a separate gateway for the bench.")
@click.option("-c", "--category", help="Row to measure. [default: the first row of SETTINGS.md]")
@click.option("--streams", default="1,8,32", callback=_numbers, show_default=True, metavar="N,...")
@click.option("--rounds", default=5, type=click.IntRange(1, 1000), show_default=True)
@click.option("--tokens", default=128, type=click.IntRange(2, 100_000), show_default=True)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Also write every figure to FILE.")  # fmt: skip
def bench(
    url: str | None, self_serve: bool, category: str | None, streams: tuple[int, ...], rounds: int,
    tokens: int, json_file: Path | None, **given: Any,
) -> None:  # fmt: skip
    """Compare the gateway with the library called directly: speed, latency and CPU time."""
    plan, settings = BenchPlan(streams, rounds, tokens), resolve(**given)
    with gateway_to_measure(settings, url, self_serve) as (gateway, state):
        target = find_target(gateway, state, category)
        click.echo(f"{target.category}: {target.config.weights} on {target.config.runtime}", err=True)
        comparisons = run(plan, target, gateway, announce)
    print_report(comparisons)
    if json_file is not None:
        json_file.write_bytes(orjson.dumps(document(plan, target, comparisons), option=orjson.OPT_INDENT_2))


@contextmanager
def gateway_to_measure(
    settings: OperatorSettings, url: str | None, self_serve: bool
) -> Iterator[tuple[GatewayClient, StateDir]]:
    """The named or running gateway and its state folder; with `self_serve` a newly started gateway."""
    if self_serve:
        with own_gateway(settings) as made:
            yield made
        return
    if url:
        parts = urlsplit(url if "//" in url else f"//{url}")
        try:
            host, port = parts.hostname or "127.0.0.1", parts.port or 80
            gateway = GatewayClient(host, port, headers=who_asks(settings, host, port))
        except ValueError as error:
            raise WrongInput(f"--url: expected http://127.0.0.1:8000, got {url!r}") from error
    else:
        gateway = gateway_of(state_dir=str(settings.state_dir))
    with gateway:
        yield gateway, StateDir.at(settings.state_dir)


def find_target(gateway: GatewayClient, state: StateDir, category: str | None) -> BenchTarget:
    """Find the row to measure, and load it."""
    models = gateway.models()
    if not models:
        raise CommandError("the gateway has no models; add a row to SETTINGS.md")
    chosen = category or str(models[0]["category"])
    gateway.load(chosen)
    model = gateway.model(chosen)
    config = worker_config(state, str(model.get("set") or chosen))
    return BenchTarget(chosen, str(model.get("engine") or config.engine), config)


def announce(turn: BenchTurn) -> None:
    """Print the current turn on standard error."""
    what = "warm-up" if turn.is_warm_up else f"round {turn.round + 1}"
    click.echo(f"{turn.streams} streams, {what}: {turn.side}", err=True)


def document(plan: BenchPlan, target: BenchTarget, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """JSON document of `--json`."""
    return {
        "category": target.category,
        "weights": target.config.weights,
        "runtime": target.config.runtime,
        "precision": target.config.precision,
        "threads": target.threads,
        "rounds": plan.rounds,
        "tokens": plan.tokens,
        "results": [to_json(one) for one in comparisons],
    }


_FIGURES = ("tokens_per_s", "ttft_p50_ms", "ttft_p99_ms", "gap_p50_ms", "gap_p99_ms")
_HEADINGS = ("streams", "side", "tokens/s", "ttft p50 ms", "ttft p99 ms", "gap p50 ms", "gap p99 ms")


def print_report(comparisons: Sequence[Comparison]) -> None:
    """Print the table of speeds, the ratios, the CPU time, and doubts about the comparison."""
    lines = [
        (str(one.streams), side, *(_spread(figures[name], 1) for name in _FIGURES))
        for one in comparisons
        for side, figures in one.measures.items()
    ]
    show(_HEADINGS, lines)
    click.echo(
        "\nMedians of the rounds (lowest to highest in brackets); a gap is the time between two pieces."
    )
    for one in comparisons:
        added = f"{one.added_ttft_ms:+.1f} ms to the median first token"
        click.echo(f"{one.streams} streams: gateway/direct {_spread(one.ratio, 2)}, {added}")
    for one in comparisons:
        used = ", ".join(
            f"{name.removeprefix('cpu_')} {spread.median:.2f}"
            for figures in one.measures.values()
            for name, spread in figures.items()
            if name.startswith("cpu_")
        )
        click.echo(f"{one.streams} streams, CPU seconds per 1,000 tokens: {used}")
    for doubt in doubts(comparisons):
        click.echo(f"doubtful: {doubt}")


def _spread(spread: Spread, places: int) -> str:
    return f"{spread.median:.{places}f} ({spread.low:.{places}f} to {spread.high:.{places}f})"
