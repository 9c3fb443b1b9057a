"""Archives in the stores: their configuration, and whether a row would be built again."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

import yaml

from conductor_core.catalogue import WorkerSet
from conductor_core.paths import StateDir
from conductor_core.weights import weights_id
from handlers.worker_config import WorkerConfig, WorkerConfigError

ArchiveState = Literal["built", "stale", "missing"]


class UnreadableArchive(Exception):
    """A `.mar` that is damaged or was made by another version; the message names it."""


def newest(state: StateDir, set_name: str) -> Path | None:
    """The archive of a set that `conductor serve` wrote last, None without one."""
    archives = state.store.glob(f"{set_name}-????????????.mar")
    return max(archives, key=lambda path: path.stat().st_mtime, default=None)


def read_config(archive: Path) -> WorkerConfig:
    """Read the worker configuration in an archive. Raises UnreadableArchive."""
    try:
        with zipfile.ZipFile(archive) as members:
            return WorkerConfig.from_yaml(yaml.safe_load(members.read("model-config.yaml"))["conductor"])
    except (OSError, zipfile.BadZipFile, KeyError, TypeError, yaml.YAMLError, WorkerConfigError) as error:
        raise UnreadableArchive(f"{archive} cannot be read: {error}") from error


def archive_state(state: StateDir, worker_set: WorkerSet) -> ArchiveState:
    """State of the set's archive; `built` means built from these weights, runtime and worker count.

    The build compares more (the handlers' own bytes); it may still find a `built` archive stale.
    """
    archive = newest(state, worker_set.name)
    if archive is None:
        return "missing"
    try:
        config = read_config(archive)
    except UnreadableArchive:
        return "stale"
    first = worker_set.first
    wanted = (weights_id(first.ref, first.precision), worker_set.runtime, worker_set.workers)
    return "built" if (config.weights, config.runtime, config.workers) == wanted else "stale"
