"""`conductor requests`: the latest generations, their waits and their ends."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from conductor.options import ADDRESS, gateway_of, operator_options
from conductor.tables import show, show_json

_HEADINGS = ("id", "began", "route", "category", "state", "queue", "first", "tokens/s", "seconds")


@click.command()
@click.argument("request", required=False)
@operator_options(*ADDRESS)
@click.option(
    "-n", "--limit", type=click.IntRange(1, 1000), default=20, help="Maximum number to list. [default: 20]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def requests(request: str | None, limit: int, as_json: bool, **given: Any) -> None:
    """List the latest requests, or show the timeline of one REQUEST, given by its id."""
    with gateway_of(**given) as gateway:
        if request is None:
            found = gateway.requests(limit)
        else:
            trace = gateway.request(request)
    if as_json:
        show_json({"requests": found} if request is None else trace)
    elif request is None:
        rows = [
            (
                one["id"],
                _when(one["started_at"]),
                one["route"],
                one["category"],
                one["state"],
                _seconds(one["queue"]["seconds"]),
                _seconds(one["first_token_s"]),
                _number(one["tokens_per_second"]),
                _seconds(one["seconds"]),
            )
            for one in found
        ]
        show(_HEADINGS, rows)
    else:
        for line in _story(trace):
            click.echo(line)


def _story(trace: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a trace in order of time."""
    reason = f" ({trace['reason']})" if trace["reason"] else ""
    yield f"{_when(trace['started_at'])}  {trace['route']} for {trace['category']}{reason}, {trace['model']}"
    queue = trace["queue"]
    yield f"queue: {_seconds(queue['seconds'])}, {queue['ahead']} ahead"
    for load in trace["loads"]:
        phases = ", ".join(f"{phase['phase']} {_seconds(phase['seconds'])}" for phase in load["phases"])
        result = load["result"] or "in progress"
        yield f"load of {load['set']}: {_seconds(load['seconds'])} ({phases}), {result}"
        if load["queue_position"]:
            yield f"  waited for memory, {load['queue_position']} of {load['queue_length']}"
        for one in load["evicted"]:
            yield f"  {one['set']} was unloaded: {one['reason']}"
    if trace["workers"]:
        workers = ", ".join(map(str, trace["workers"]))
        yield f"worker {workers}: first token {_seconds(trace['first_token_s'])} after arrival"
    if usage := trace["usage"]:
        speed = _number(trace["tokens_per_second"])
        tokens = f"{usage['prompt_tokens']} prompt tokens, {usage['completion_tokens']} generated"
        yield f"{tokens}, {speed} per second"
    for name, value in (trace["findings"] or {}).items():
        yield f"check {name}: {value}"
    end = str(trace["finish_reason"] or trace["stage"])
    if error := trace["error"]:
        end = f"{error['status']} {error['code']} {error['message'] or ''}".strip()
    yield f"{trace['state']} after {_seconds(trace['seconds'])}: {end}"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", timespec="seconds")[:19]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}s"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
