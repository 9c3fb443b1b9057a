"""The `conductor:` key of an archive's model-config.yaml, as the build tool writes it and a worker reads it.

Knows names and units only; it opens no file and loads no weights.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

from handlers.runtimes.base import RuntimeConfig
from handlers.wire import Sampling


class WorkerConfigError(ValueError):
    """The `conductor:` key is missing or wrong; the message names every wrong field in one line."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The configuration of one worker.

    `memory` is in bytes for all workers, `context` in tokens; `weights` identifies model and precision,
    `set` names the worker set. `module` opens the runtime (`handlers.runtimes.base`), `refused` are the
    decoding parameters that it does not support, and a token takes `kv_token_bytes` of its KV cache.
    `category`, `engine`, `model` (the display name), `system` (the persona) and `parameters` come from the
    row of the archive and are used without the gateway; the gateway sends its own with each request.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", hide_input_in_errors=True)

    wire: int
    set: str
    version: str
    category: str
    engine: str
    runtime: str
    module: str
    refused: tuple[str, ...]
    kv_token_bytes: NonNegativeInt
    device: str
    precision: str
    weights: str
    model_path: Path
    context: PositiveInt | None = None
    workers: PositiveInt = 1
    memory: PositiveInt | None = None
    model: str | None = None
    system: str | None = None
    parameters: Mapping[str, float | int | str | bool] = field(default_factory=dict)

    @classmethod
    def from_yaml(cls, mapping: Mapping[str, Any]) -> Self:
        """The checked configuration; `mapping` is the value of the `conductor:` key."""
        try:
            return TypeAdapter(cls).validate_python(dict(mapping))
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise WorkerConfigError(f"model-config.yaml, conductor: {'; '.join(faults)}") from error

    def to_yaml(self) -> dict[str, Any]:
        """Plain values which `from_yaml` reads back to an equal configuration."""
        plain = {"model_path": str(self.model_path), "refused": list(self.refused)}
        return {**asdict(self), **plain, "parameters": dict(self.parameters)}

    @property
    def sampling(self) -> Sampling:
        """The decoding parameters among `parameters`."""
        return Sampling.model_validate(
            {k: v for k, v in self.parameters.items() if k in Sampling.model_fields}
        )

    @property
    def options(self) -> dict[str, Any]:
        """The engine's own options among `parameters`."""
        return {k: v for k, v in self.parameters.items() if k not in Sampling.model_fields}

    @property
    def runtime_config(self) -> RuntimeConfig:
        """The configuration of the runtime; the workers of the set share cores and memory evenly."""
        cores = len(os.sched_getaffinity(0))
        return RuntimeConfig(
            model_path=self.model_path,
            precision=self.precision,
            device=self.device,
            context=self.context,
            threads=max(1, cores // self.workers),
            memory=None if self.memory is None else self.memory // self.workers,
            kv_token_bytes=self.kv_token_bytes,
        )
