"""Statistics of a bench: samples in, medians with their spread out; pure.

Times are seconds in samples and milliseconds in measures; CPU is seconds per 1,000 tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from conductor.bench.plan import SIDES, Side


@dataclass(frozen=True, slots=True)
class Stream:
    """One answer: time of its request, time of each piece, and tokens by the model's own count."""

    start: float
    times: tuple[float, ...]
    prompt_tokens: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn of one side; `cpu` is seconds by process kind (client, gateway, jvm, worker, direct)."""

    streams: tuple[Stream, ...]
    cpu: Mapping[str, float] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return sum(stream.tokens for stream in self.streams)

    @property
    def seconds(self) -> float:
        """Seconds from the first request to the last piece."""
        ends = [stream.times[-1] for stream in self.streams if stream.times]
        return max(ends, default=0.0) - min((stream.start for stream in self.streams), default=0.0)


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the lowest and highest of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Result of one number of streams: `measures[side][name]`, and the ratio gateway/direct by round.

    `tokens` are totals; `tokens_equal` and `prompts_equal` say whether every stream had equal counts on both
    sides, which makes their times comparable.
    """

    streams: int
    rounds: int
    measures: Mapping[Side, Mapping[str, Spread]]
    ratio: Spread
    added_ttft_ms: float
    tokens: Mapping[Side, int]
    tokens_equal: bool
    prompts_equal: bool


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, linear between ranks; nan without values."""
    ranked = sorted(values)
    if not ranked:
        return math.nan
    place = share * (len(ranked) - 1)
    below, above = math.floor(place), math.ceil(place)
    return ranked[below] + (ranked[above] - ranked[below]) * (place - below)


def measure(sample: Sample) -> dict[str, float]:
    """Figures of one turn, named with their units."""
    first = [stream.times[0] - stream.start for stream in sample.streams if stream.times]
    gaps = [b - a for stream in sample.streams for a, b in zip(stream.times, stream.times[1:], strict=False)]
    figures = {
        "tokens_per_s": sample.tokens / sample.seconds if sample.seconds > 0 else math.nan,
        "ttft_p50_ms": percentile(first, 0.5) * 1e3,
        "ttft_p99_ms": percentile(first, 0.99) * 1e3,
        "gap_p50_ms": percentile(gaps, 0.5) * 1e3,
        "gap_p99_ms": percentile(gaps, 0.99) * 1e3,
    }
    cpu = {f"cpu_{name}": used * 1e3 / max(1, sample.tokens) for name, used in sample.cpu.items()}
    return figures | cpu


def compare(streams: int, samples: Mapping[Side, Sequence[Sample]]) -> Comparison:
    """Both sides over their rounds; the two lists belong together round by round."""
    figures = {side: [measure(sample) for sample in samples[side]] for side in SIDES}
    measures = {
        side: {name: Spread.of([one[name] for one in rounds]) for name in rounds[0]}
        for side, rounds in figures.items()
    }
    ratios = [
        ours["tokens_per_s"] / theirs["tokens_per_s"]
        for ours, theirs in zip(figures["gateway"], figures["direct"], strict=True)
    ]
    return Comparison(
        streams=streams,
        rounds=len(ratios),
        measures=measures,
        ratio=Spread.of(ratios),
        added_ttft_ms=measures["gateway"]["ttft_p50_ms"].median - measures["direct"]["ttft_p50_ms"].median,
        tokens={side: sum(sample.tokens for sample in samples[side]) for side in SIDES},
        tokens_equal=_counts(samples["gateway"]) == _counts(samples["direct"]),
        prompts_equal=_prompt_tokens(samples["gateway"]) == _prompt_tokens(samples["direct"]),
    )


def _counts(samples: Sequence[Sample]) -> list[int]:
    return [stream.tokens for sample in samples for stream in sample.streams]


def _prompt_tokens(samples: Sequence[Sample]) -> list[int]:
    return [stream.prompt_tokens for sample in samples for stream in sample.streams]


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Plain values for `--json`."""
    return {
        "streams": comparison.streams,
        "rounds": comparison.rounds,
        "ratio": _spread_to_json(comparison.ratio),
        "added_ttft_ms": round(comparison.added_ttft_ms, 3),
        "tokens": dict(comparison.tokens),
        "tokens_equal": comparison.tokens_equal,
        "prompts_equal": comparison.prompts_equal,
        **{
            side: {name: _spread_to_json(spread) for name, spread in comparison.measures[side].items()}
            for side in SIDES
        },
    }


def _spread_to_json(spread: Spread) -> dict[str, float | None]:
    """Three places; nan, which JSON does not have, is null."""
    values = {"median": spread.median, "low": spread.low, "high": spread.high}
    return {name: None if math.isnan(value) else round(value, 3) for name, value in values.items()}


def doubts(comparisons: Iterable[Comparison]) -> list[str]:
    """Sentences on what makes a comparison unfair; none if both sides did the same work."""
    found = []
    for one in comparisons:
        if not one.tokens_equal:
            counts = ", ".join(f"{side} {count}" for side, count in one.tokens.items())
            found.append(f"at {one.streams} streams the sides produced different numbers of tokens: {counts}")
        if not one.prompts_equal:
            found.append(f"at {one.streams} streams the sides counted different prompt tokens")
    return found
