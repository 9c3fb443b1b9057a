"""Facts of a worker set's weights without a build, from files on this machine.

Downloads and converts nothing and needs no connection. Reads the stamp of prepared weights, else the headers
of the model's own files.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from archives.build_context import BuildContext
from archives.errors import BuildError
from archives.fetch import fetched
from archives.headers import read_folder, read_gguf
from archives.identity import identify
from archives.prepare import Prepared, prepared
from archives.weights_info import KnownWeights, WeightsInfo
from archives.worker_archive import WorkerPlan, contexts_of, worker_config
from conductor_core.catalogue import ModelRef, WorkerSet


def known_weights(worker_set: WorkerSet, build_context: BuildContext) -> KnownWeights:
    """Facts of the set's weights; empty if they are not on this machine. Call it in a thread."""
    offline = replace(build_context, job=_asks_nobody, refresh=False)
    try:
        found = _found(worker_set, offline)
    except (BuildError, OSError):
        return KnownWeights()
    if found is None:
        return KnownWeights()
    config = worker_config(WorkerPlan.of(worker_set), found)
    return KnownWeights(found.identity, config.memory, contexts_of(config, found))


def _found(worker_set: WorkerSet, build_context: BuildContext) -> Prepared | None:
    row = worker_set.first
    identity = identify(row.ref, build_context)
    there = prepared(row, worker_set.runtime, identity, build_context)
    if there is not None:
        return there
    source = fetched(row.ref, identity, build_context)
    if source is None:
        return None
    return Prepared(source, identity, _headers(row.ref, source), made=False)


def _headers(ref: ModelRef, source: Path) -> WeightsInfo:
    return read_gguf(source)[0] if ref.is_gguf else read_folder(source, ref.source)


def _asks_nobody(*_: Any, **__: Any) -> NoReturn:
    raise BuildError("it is not on this machine", "conductor pull")
