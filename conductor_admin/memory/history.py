"""History of measurements on this machine, kept across restarts: memory peaks and load times of worker sets.

Knows a JSON file and its keys; `conductor_admin.memory.accounting` evaluates the peaks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Self

import orjson
import structlog

from archives.weights_info import KnownWeights
from conductor_admin.memory.accounting import MemoryFigures, higher, parse_peak
from conductor_admin.memory.policy import DeviceBytes
from conductor_core.catalogue import RuntimeName, WorkerSet
from conductor_core.files import fault, read_bounded, write_whole
from conductor_core.runtimes import RUNTIMES
from conductor_core.weights import weights_id

log = structlog.get_logger()

LARGEST_BYTES = 4 * 2**20
_WORTH_KEEPING = 1.02
"""Factor by which a new peak must exceed the stored one to be written."""

SETTLED = 20
"""Number of measurements right after an answer, at most one a second, until a peak is settled."""


@dataclass(frozen=True, slots=True)
class KnownFigures:
    """Stored figures of one set: its peak in bytes by device, and the seconds of its last load.

    `uses` counts the measurements right after an answer, up to SETTLED.
    """

    memory: DeviceBytes = field(default_factory=dict)
    load_s: float | None = None
    uses: int = 0

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read one entry of the file; ignores invalid figures."""
        if not isinstance(value, dict):
            return cls()
        seconds = value.get("load_s")
        load_s = float(seconds) if isinstance(seconds, int | float) and seconds > 0 else None
        uses = value.get("uses")
        return cls(parse_peak(value.get("memory")), load_s, uses if isinstance(uses, int) else 0)


def peak_key(worker_set: WorkerSet, identity: str, runtime_version: str) -> str:
    """Key of everything that decides a set's memory: weights, device, context, workers, library version, and
    the declared memory, up to which its KV cache grows.
    """
    weights = weights_id(worker_set.first.ref, worker_set.first.precision)
    context = worker_set.context or "model"
    parts = (weights, identity, worker_set.runtime, runtime_version, worker_set.device)
    memory = worker_set.declared_memory or "least"
    return " ".join((*parts, f"context={context}", f"workers={worker_set.workers}", f"memory={memory}"))


@cache
def runtime_version(runtime: RuntimeName) -> str:
    """The installed versions of the runtime's libraries, "none" if they are missing."""
    versions = []
    for name in RUNTIMES[runtime].libraries:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(metadata.version(name))
    return "+".join(versions) or "none"


class MemoryHistory:
    """The stored figures of one state directory; a file that cannot be read counts as empty."""

    def __init__(self, path: Path, version_of: Callable[[RuntimeName], str] = runtime_version) -> None:
        self._path = path
        self._version_of = version_of
        try:
            kept = orjson.loads(read_bounded(path, LARGEST_BYTES))
        except (OSError, orjson.JSONDecodeError):
            kept = None
        entries = kept.items() if isinstance(kept, dict) else ()
        self._kept = {str(key): KnownFigures.parse(value) for key, value in entries}
        self._failed = False

    def of(self, worker_set: WorkerSet, identity: str | None) -> dict[str, int]:
        """The learned peak, empty before the first measurement or while the weights are not yet known."""
        return dict(self._known(worker_set, identity).memory)

    def is_settled(self, worker_set: WorkerSet, identity: str | None) -> bool:
        """True if the set was measured in use often enough for its peak to replace the estimates."""
        return self._known(worker_set, identity).uses >= SETTLED

    def figures(
        self, worker_set: WorkerSet, known: KnownWeights, measured: DeviceBytes | None = None
    ) -> MemoryFigures:
        """All memory figures of the set; `measured` are the latest bytes by device."""
        return MemoryFigures.of(
            worker_set,
            known.memory,
            measured or {},
            self.of(worker_set, known.identity),
            settled=self.is_settled(worker_set, known.identity),
        )

    def load_s(self, worker_set: WorkerSet, identity: str | None) -> float | None:
        """Seconds that the set's last load took from registration to READY; None before the first."""
        return self._known(worker_set, identity).load_s

    def learn(
        self, worker_set: WorkerSet, identity: str, measured: DeviceBytes, *, in_use: bool = False
    ) -> None:
        """Store `measured` if it exceeds the stored peak; `in_use` means right after an answer."""
        known = self._known(worker_set, identity)
        uses = min(SETTLED, known.uses + in_use)
        has_grown = any(s > known.memory.get(device, 0) * _WORTH_KEEPING for device, s in measured.items())
        if has_grown or uses != known.uses:
            memory = higher(known.memory, measured) if has_grown else known.memory
            self._keep(worker_set, identity, replace(known, memory=memory, uses=uses))

    def loaded(self, worker_set: WorkerSet, identity: str, seconds: float) -> None:
        """Store the seconds of a load."""
        known = self._known(worker_set, identity)
        self._keep(worker_set, identity, replace(known, load_s=round(seconds, 2)))

    def _known(self, worker_set: WorkerSet, identity: str | None) -> KnownFigures:
        return self._kept.get(self._key(worker_set, identity), KnownFigures()) if identity else KnownFigures()

    def _keep(self, worker_set: WorkerSet, identity: str, known: KnownFigures) -> None:
        self._kept[self._key(worker_set, identity)] = known
        kept = {key: asdict(one) for key, one in self._kept.items()}
        content = orjson.dumps(kept, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        try:
            write_whole(self._path, content, keep=False)
            self._failed = False
        except OSError as error:
            if not self._failed:  # logged once: each measurement tries again
                log.warning("peaks_not_kept", cause=fault(error))
            self._failed = True

    def _key(self, worker_set: WorkerSet, identity: str) -> str:
        return peak_key(worker_set, identity, self._version_of(worker_set.runtime))
