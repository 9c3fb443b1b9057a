"""Adapter of the build tool for the lifecycle: builds in a thread and reports progress as phases."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from archives.build import build_set, check_set
from archives.build_context import BuildContext
from archives.errors import BuildCancelled, BuildError
from archives.known import known_weights
from archives.weights_info import KnownWeights
from conductor_admin.workers.loader import LoadError, Report
from conductor_admin.workers.worker import Archive, Phase
from conductor_core.catalogue import WorkerSet
from conductor_core.files import fault

Made = TypeVar("Made")

_PHASES: dict[str, Phase] = {
    "wait": "download",
    "download": "download",
    "convert": "convert",
    "archive": "start",
}


class SetBuilder:
    """Builds worker sets into one store; archives that are up to date are reused."""

    def __init__(self, store: Path, build_context: BuildContext) -> None:
        self._store = store
        self._build_context = build_context

    async def build(self, worker_set: WorkerSet, report: Report) -> Archive:
        """Build or find the set's archive. Cancelling ends the build at its next step. Raises LoadError."""
        progress = _Progress(asyncio.get_running_loop(), report)
        build_context = replace(self._build_context, progress=progress)
        built = await _in_thread(build_context, lambda shop: build_set(worker_set, self._store, shop))
        return Archive(
            file=built.path.name,
            name=built.name,
            version=built.version,
            estimated=built.memory or None,
            identity=built.identity,
            contexts=built.contexts,
        )

    async def check(self, worker_set: WorkerSet) -> None:
        """Raise LoadError if the set's weights differ from their digests. Cancelling ends the check."""
        await _in_thread(self._build_context, lambda shop: check_set(worker_set, shop))

    async def survey(self, worker_set: WorkerSet) -> KnownWeights:
        """Facts from the files of the set's weights, as far as they are on this machine."""
        return await asyncio.to_thread(known_weights, worker_set, self._build_context)


async def _in_thread(build_context: BuildContext, work: Callable[[BuildContext], Made]) -> Made:
    """Run `work` in a thread; cancelling sets the build context's stop. Raises LoadError."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(work, replace(build_context, stop=stop))
    except (BuildError, BuildCancelled) as error:
        raise LoadError(str(error)) from error
    except OSError as error:
        raise LoadError(f"the model's files cannot be used: {fault(error)}") from error
    except asyncio.CancelledError:
        stop.set()
        raise


@dataclass(frozen=True)
class _Progress:
    """Carries progress from the building thread to the event loop."""

    loop: asyncio.AbstractEventLoop
    report: Report

    def update(self, phase: str, done: int, total: int | None, message: str) -> None:
        share = min(1.0, done / total) if total else None
        self.loop.call_soon_threadsafe(self.report, _PHASES.get(phase, "start"), share)
