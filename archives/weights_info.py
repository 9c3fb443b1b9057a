"""Facts of weights without loading them, the stamp file that keeps them, and estimates of memory."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from conductor_core.catalogue import RuntimeName
from conductor_core.files import LARGEST_JSON, read_bounded
from conductor_core.runtimes import RUNTIMES
from conductor_core.sizes import BYTES_PER_PARAMETER
from handlers.runtimes.cache_places import reserve_tokens

STAMP = "conductor.json"

_DEFAULT_CONTEXT = 4096


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """Facts from headers. `size` is the bytes of the weights on disk, `context` is in tokens, `quantisation`
    the file's own name (`Q4_1`, `BF16`); the last three fields describe the decoder's KV cache.
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
    """The content of `conductor.json`, the stamp file of prepared weights.

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
        """The stamp in `folder`; None if there is none or it is damaged."""
        try:
            values: dict[str, Any] = json.loads(read_bounded(folder / STAMP, LARGEST_JSON))
            return cls(**{**values, "info": WeightsInfo(**values["info"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """Facts of a worker set that is not loaded; empty if its weights are not on this machine.

    `identity` identifies the content of the weights, `memory` is the most bytes that all workers take,
    `contexts` the number of longest requests that fit into the KV cache of one worker.
    """

    identity: str = ""
    memory: int | None = None
    contexts: float | None = None


def estimate_memory(
    info: WeightsInfo, runtime: RuntimeName, precision: str, context: int | None = None, workers: int = 1
) -> int:
    """The least bytes of a worker set: weights and the smallest cache, times the number of workers."""
    cache = _least_tokens(info, context) * kv_token_bytes(info, runtime)
    return (_fixed_bytes(info, runtime, precision) + cache) * workers


def contexts_held(
    info: WeightsInfo, runtime: RuntimeName, precision: str, context: int | None, memory: int
) -> float | None:
    """Contexts that fit into the KV cache of a worker with `memory` bytes on a CPU.

    None without a KV cache.
    """
    token_bytes = kv_token_bytes(info, runtime)
    if not token_bytes:
        return None
    longest = context or info.context or _DEFAULT_CONTEXT
    room = (memory - _fixed_bytes(info, runtime, precision)) / token_bytes
    most = RUNTIMES[runtime].cpu_cache_tokens
    if most is not None:
        room = min(room, most)
    return max(room, _least_tokens(info, context)) / longest


def kv_token_bytes(info: WeightsInfo, runtime: RuntimeName) -> int:
    """Bytes of one token in the KV cache; 0 without a KV cache."""
    spec = RUNTIMES[runtime]
    of_head = info.head_dim * spec.kv_bytes + spec.kv_head_bytes
    return int(2 * info.layers * info.kv_heads * of_head)


def in_tenths(contexts: float | None) -> float | None:
    """A number of contexts for display: rounded down to tenths."""
    return None if contexts is None else math.floor(contexts * 10) / 10


def _fixed_bytes(info: WeightsInfo, runtime: RuntimeName, precision: str) -> int:
    per_parameter = BYTES_PER_PARAMETER.get(precision)
    weights = info.size if per_parameter is None else int(info.parameters * per_parameter)
    return weights + RUNTIMES[runtime].process_bytes


def _least_tokens(info: WeightsInfo, context: int | None) -> int:
    tokens = context or info.context or _DEFAULT_CONTEXT
    return tokens + reserve_tokens(tokens)
