"""Archive of a worker: its model-config.yaml, and the version, which changes when new workers are needed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from archives.archive import BUNDLED, ArchiveSpec, handler_files
from archives.prepare import Prepared
from archives.weights_info import contexts_held, estimate_memory, kv_token_bytes
from conductor_core.catalogue import Precision, Row, RuntimeName, WorkerSet
from conductor_core.runtimes import RUNTIMES
from conductor_core.weights import weights_id
from handlers.wire import WIRE_VERSION
from handlers.worker_config import WorkerConfig

BATCH_SIZE = 8
MAX_BATCH_DELAY_MS = 20
A_DAY_S = 86_400
_VERSION_DIGITS = 12


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """One archive to make: `name` is a row's slug or a set's name, `row` its first row.

    `memory` is the bytes that the table gives one worker.
    """

    name: str
    row: Row
    runtime: RuntimeName
    device: str
    workers: int
    context: int | None
    system: str | None = None
    bundle: bool = False
    memory: int | None = None

    @classmethod
    def of(cls, worker_set: WorkerSet, system: str | None = None) -> Self:
        """The plan of a worker set's archive in the gateway's store."""
        return cls(
            name=worker_set.name,
            row=worker_set.first,
            runtime=worker_set.runtime,
            device=worker_set.device,
            workers=worker_set.workers,
            context=worker_set.context,
            system=system,
            memory=worker_set.declared_memory,
        )


def archive_spec(plan: WorkerPlan, prepared: Prepared) -> ArchiveSpec:
    """The archive of `plan` on `prepared` weights."""
    config = worker_config(plan, prepared)
    return ArchiveSpec(
        name=plan.name,
        version=config.version,
        config={**_torchserve_keys(plan), "conductor": config.to_yaml()},
        bundle=prepared.path if plan.bundle else None,
    )


def worker_config(plan: WorkerPlan, prepared: Prepared) -> WorkerConfig:
    """The `conductor:` key of model-config.yaml; context is the row's or else the model's.

    Memory is the declared memory of the set, which the KV cache fills, or at least the estimate.
    """
    spec = RUNTIMES[plan.runtime]
    precision = precision_word(plan.row, prepared)
    context = plan.context or prepared.info.context
    least = estimate_memory(prepared.info, plan.runtime, precision, context, plan.workers)
    return WorkerConfig(
        wire=WIRE_VERSION,
        set=plan.name,
        version=worker_version(plan, prepared),
        category=plan.row.slug,
        engine=plan.row.engine,
        runtime=plan.runtime,
        module=spec.module,
        refused=tuple(sorted(spec.refused)),
        kv_token_bytes=kv_token_bytes(prepared.info, plan.runtime),
        device=plan.device,
        precision=precision,
        weights=weights_id(plan.row.ref, plan.row.precision),
        model_path=Path(BUNDLED) if plan.bundle else prepared.path,
        context=context,
        workers=plan.workers,
        memory=max(least, (plan.memory or 0) * plan.workers),
        model=plan.row.model,
        system=plan.system,
        parameters=dict(plan.row.parameters),
    )


def contexts_of(config: WorkerConfig, prepared: Prepared) -> float | None:
    """The number of longest requests that fit into the KV cache of one worker; None without a KV cache."""
    memory = (config.memory or 0) // config.workers
    return contexts_held(prepared.info, config.runtime, config.precision, config.context, memory)


def precision_word(row: Row, prepared: Prepared) -> str:
    """The precision: `FP32`, `FP16`, `BF16`, `8-bit`, `4-bit`, or the file's own (`Q4_1`, `BF16`, `IR`)."""
    return prepared.info.quantisation if row.precision is Precision.FILE else row.precision.value


def worker_version(plan: WorkerPlan, prepared: Prepared) -> str:
    """12 hex digits of a digest of all facts that need new workers, without paths, persona and parameters."""
    spec = RUNTIMES[plan.runtime]
    total = hashlib.sha256()
    for name, content in sorted(handler_files().items()):
        total.update(f"{name}\0{len(content)}\0".encode() + content)
    needs = {
        "weights": prepared.identity,
        "precision": plan.row.precision.value,
        "runtime": plan.runtime,
        "module": spec.module,
        "refused": sorted(spec.refused),
        "kv_token_bytes": kv_token_bytes(prepared.info, plan.runtime),
        "device": plan.device,
        "context": plan.context,
        "workers": plan.workers,
        "memory": plan.memory,
        "handlers": total.hexdigest(),
    }
    return hashlib.sha256(json.dumps(needs, sort_keys=True).encode()).hexdigest()[:_VERSION_DIGITS]


def _torchserve_keys(plan: WorkerPlan) -> dict[str, Any]:
    """TorchServe's own keys.

    Both timeouts are set because its default of 120 s would override all other settings.
    """
    keys: dict[str, Any] = {
        "minWorkers": plan.workers,
        "maxWorkers": plan.workers,
        "batchSize": BATCH_SIZE,
        "maxBatchDelay": MAX_BATCH_DELAY_MS,
        "responseTimeout": A_DAY_S,
        "startupTimeout": A_DAY_S,
        "deviceType": "gpu" if plan.device.startswith("cuda") else "cpu",
    }
    if plan.device.startswith("cuda:"):
        keys["deviceIds"] = [int(plan.device.removeprefix("cuda:"))]
    return keys
