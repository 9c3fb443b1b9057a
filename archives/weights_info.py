"""What is known of weights without loading them, the stamp that keeps it, and the memory they will take."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from conductor_core.files import LARGEST_JSON, read_bounded
from handlers.runtimes.cache_places import reserve_tokens

STAMP = "conductor.json"

_BYTES_PER_PARAMETER = {"FP32": 4.0, "FP16": 2.0, "BF16": 2.0, "8-bit": 1.1, "4-bit": 0.65}
_KV_BYTES = {"openvino": 1.1, "transformers": 2.0, "vllm": 2.0}
"""Per value of the KV cache: openvino keeps 8-bit values with scales, the others 16-bit ones."""
_PROCESS_BYTES = {"openvino": 420_000_000, "transformers": 900_000_000, "vllm": 2_000_000_000}
"""Interpreter, libraries and compiled graph of one worker of a model of no size."""
_DEFAULT_CONTEXT = 4096
_TRANSFORMERS_TOKENS = 32_768
"""Most tokens of its cache on a CPU: `handlers.runtimes.transformers.memory`."""
_WITH_A_RESERVE = {"openvino", "transformers"}
"""Runtimes whose cache keeps room for short requests beside the longest."""


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """Read from headers. `size` is the bytes of the weights on disk, `context` in tokens, `quantisation` the
    file's own word (`Q4_1`, `BF16`); the last three are of the decoder's KV cache.
    """

    architecture: str
    parameters: int
    size: int
    quantisation: str
    context: int | None
    layers: int = 0
    kv_heads: int = 0
    head_dim: int = 0


@dataclass(frozen=True, slots=True)
class Stamp:
    """What `conductor.json` says beside prepared weights.

    `path` is the folder or file to load, None for the stamp's own folder; `files` is sha256 by name.
    """

    source: str
    info: WeightsInfo
    path: str | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    estimated_memory: int | None = None

    def write(self, folder: Path) -> None:
        (folder / STAMP).write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The stamp in `folder`, None where there is none or it is not whole."""
        try:
            values: dict[str, Any] = json.loads(read_bounded(folder / STAMP, LARGEST_JSON))
            return cls(**{**values, "info": WeightsInfo(**values["info"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """What can be said of a worker set that is not loaded: nothing, or the one content of its weights.

    `identity` tells one content from another, `memory` is the bytes that all workers take at most,
    `contexts` the number of longest requests that the KV cache of one worker holds.
    """

    identity: str = ""
    memory: int | None = None
    contexts: float | None = None


def estimate_memory(
    info: WeightsInfo, runtime: str, precision: str, context: int | None = None, workers: int = 1
) -> int:
    """Bytes that a worker set needs at least: weights and the smallest cache, for each of its workers."""
    tokens = _least_tokens(info, runtime, context)
    return (_fixed_bytes(info, runtime, precision) + int(tokens * _token_bytes(info, runtime))) * workers


def contexts_held(
    info: WeightsInfo, runtime: str, precision: str, context: int | None, memory: int
) -> float | None:
    """Contexts in the KV cache of a worker of so much memory on a CPU; None for a model that has none."""
    if not _token_bytes(info, runtime):
        return None
    longest = context or info.context or _DEFAULT_CONTEXT
    room = (memory - _fixed_bytes(info, runtime, precision)) / _token_bytes(info, runtime)
    if runtime == "transformers":
        room = min(room, _TRANSFORMERS_TOKENS)
    return max(room, _least_tokens(info, runtime, context)) / longest


def in_tenths(contexts: float | None) -> float | None:
    """A number of contexts as it is shown: rounded down."""
    return None if contexts is None else math.floor(contexts * 10) / 10


def _fixed_bytes(info: WeightsInfo, runtime: str, precision: str) -> int:
    per_parameter = _BYTES_PER_PARAMETER.get(precision)
    weights = info.size if per_parameter is None else int(info.parameters * per_parameter)
    return weights + _PROCESS_BYTES[runtime]


def _token_bytes(info: WeightsInfo, runtime: str) -> float:
    return 2 * info.layers * info.kv_heads * info.head_dim * _KV_BYTES[runtime]


def _least_tokens(info: WeightsInfo, runtime: str, context: int | None) -> int:
    tokens = context or info.context or _DEFAULT_CONTEXT
    return tokens + (reserve_tokens(tokens) if runtime in _WITH_A_RESERVE else 0)
