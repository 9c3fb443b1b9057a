"""Facts of a worker set's weights without a build, from files on this machine.

Downloads and converts nothing and needs no connection. Reads the stamp of prepared weights, else the headers
of the model's own files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

from archives.build_context import BuildContext
from archives.errors import BuildError
from archives.fetch import fetched
from archives.headers import read_folder, read_gguf
from archives.identity import identify
from archives.prepare import Prepared, prepared
from archives.weights_info import KnownWeights
from archives.worker_archive import WorkerPlan, contexts_of, worker_config
from conductor_core.catalogue import WorkerSet


def known_weights(worker_set: WorkerSet, build_context: BuildContext) -> KnownWeights:
    """Facts of the set's weights; empty if they are not on this machine. Call it in a thread."""
    offline = replace(build_context, job=_asks_nobody, refresh=False)
    row = worker_set.first
    try:
        identity = identify(row.ref, offline)
        found = prepared(row, worker_set.runtime, identity, offline)
        source = fetched(row.ref, identity, offline) if found is None else None
        if source is not None:
            info = read_gguf(source)[0] if row.ref.is_gguf else read_folder(source, row.ref.source)
            found = Prepared(source, identity, info, made=False)
    except (BuildError, OSError):
        return KnownWeights()
    if found is None:
        return KnownWeights()
    config = worker_config(WorkerPlan.of(worker_set), found)
    return KnownWeights(found.identity, config.memory, contexts_of(config, found))


def _asks_nobody(*_: Any, **__: Any) -> NoReturn:
    raise BuildError("it is not on this machine", "conductor pull")
