"""Memory peaks of worker sets as measured on this machine, kept in the state directory across restarts.

Knows a JSON file and keys; what a peak is good for, `conductor_admin.ledger` says.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path

import orjson
import structlog

from conductor_admin.ledger import higher, parse_peak
from conductor_admin.policy import Bytes
from conductor_core.catalogue import RuntimeName, WorkerSet
from conductor_core.weights import weights_id

log = structlog.get_logger()

_LIBRARIES: dict[RuntimeName, tuple[str, ...]] = {
    "openvino": ("openvino-genai",),
    "transformers": ("transformers", "torch"),
    "vllm": ("vllm",),
}
_WORTH_KEEPING = 1.02
"""Times the kept peak; smaller steps are not written."""


def peak_key(worker_set: WorkerSet, identity: str, runtime_version: str) -> str:
    """Names what decides a set's memory: weights, device, context, workers, and the library's version."""
    weights = weights_id(worker_set.first.ref, worker_set.first.precision)
    context = worker_set.context or "model"
    parts = (weights, identity, worker_set.runtime, runtime_version, worker_set.device)
    return " ".join((*parts, f"context={context}", f"workers={worker_set.workers}"))


@cache
def runtime_version(runtime: RuntimeName) -> str:
    """The installed version of the runtime's library, "none" where it is missing."""
    versions = []
    for name in _LIBRARIES[runtime]:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(metadata.version(name))
    return "+".join(versions) or "none"


class Peaks:
    """The learned peaks of one state directory; a file that cannot be read is an empty one."""

    def __init__(self, path: Path, version_of: Callable[[RuntimeName], str] = runtime_version) -> None:
        self._path = path
        self._version_of = version_of
        self._kept = _read(path)

    def of(self, worker_set: WorkerSet, identity: str | None) -> dict[str, int]:
        """The learned peak, empty before the first measurement or while the weights are not yet known."""
        return dict(self._kept.get(self._key(worker_set, identity), {})) if identity else {}

    def learn(self, worker_set: WorkerSet, identity: str, measured: Bytes) -> None:
        """Remember `measured` where it is above the peak that is kept."""
        key = self._key(worker_set, identity)
        before = self._kept.get(key, {})
        if all(size <= before.get(device, 0) * _WORTH_KEEPING for device, size in measured.items()):
            return
        self._kept[key] = higher(before, measured)
        self._write()

    def _key(self, worker_set: WorkerSet, identity: str | None) -> str:
        return peak_key(worker_set, identity or "", self._version_of(worker_set.runtime))

    def _write(self) -> None:
        new = self._path.with_suffix(".new")
        try:
            new.write_bytes(orjson.dumps(self._kept, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
            os.replace(new, self._path)
        except OSError as error:
            log.warning("peaks_not_kept", cause=str(error))


def _read(path: Path) -> dict[str, dict[str, int]]:
    try:
        kept = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return {str(key): parse_peak(value) for key, value in kept.items()} if isinstance(kept, dict) else {}
