"""Writes .mar files: what is in one, in a fixed order with fixed dates. Equal inputs give equal bytes."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import handlers
from archives.manifest import CONFIG, MANIFEST, handler_name, manifest_json
from archives.safety import names_in, wanted_files
from archives.validate import InvalidArchiveError, validate_archive

HANDLERS = Path(handlers.__file__ or "").parent
BUNDLED = "weights"
"""Folder of the weights in a bundled archive; `model_path` is then this name, relative to the archive."""

_DATE = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = 0o100644 << 16
_STORED_ABOVE = 1024 * 1024

_STUB = '''"""TorchServe's entry point for {name}: it wants a module with exactly one class."""

from handlers.engine_handler import EngineHandler


class Handler(EngineHandler):
    """Serves the weights that model-config.yaml names."""
'''

Members = dict[str, "bytes | Path"]


@dataclass(frozen=True, slots=True)
class ArchiveSpec:
    """One archive. `config` becomes model-config.yaml; `bundle` is a weights folder to put inside."""

    name: str
    version: str
    config: Mapping[str, Any]
    bundle: Path | None = None


def handler_files(root: Path = HANDLERS) -> dict[str, bytes]:
    """Every file of the `handlers` package by its name in the archive, without caches."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {f"handlers/{path.relative_to(root).as_posix()}": path.read_bytes() for path in files}


def members(spec: ArchiveSpec) -> Members:
    """Content by member name; a bundled weights file is its path, since it may be large."""
    stub = handler_name(spec.name)
    content: Members = {
        MANIFEST: manifest_json(spec.name, spec.version, stub),
        CONFIG: yaml.safe_dump(dict(spec.config), sort_keys=True, allow_unicode=True).encode(),
        stub: _STUB.format(name=spec.name).encode(),
        **handler_files(),
    }
    if spec.bundle is not None:
        names = wanted_files(names_in(spec.bundle), str(spec.bundle))
        content.update({f"{BUNDLED}/{name}": spec.bundle / name for name in names})
    return dict(sorted(content.items()))


def write_archive(spec: ArchiveSpec, target: Path) -> bool:
    """Make `target` say what `spec` says; False where it does already. The change is atomic and validated."""
    content = members(spec)
    if _is_current(target, content):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=".mar.new")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _write_zip(file, content)
            file.flush()
            os.fsync(file.fileno())
        validate_archive(temporary)
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _write_zip(file: Any, content: Members) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in content.items():
            large = isinstance(value, Path) and value.stat().st_size > _STORED_ABOVE
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = _FILE_MODE
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_STORED if large else zipfile.ZIP_DEFLATED
            if isinstance(value, bytes):
                archive.writestr(entry, value)
                continue
            entry.file_size = value.stat().st_size
            with value.open("rb") as source, archive.open(entry, "w") as out:
                shutil.copyfileobj(source, out, 1024 * 1024)


def _is_current(target: Path, content: Members) -> bool:
    try:
        validate_archive(target)
    except InvalidArchiveError:
        return False
    with zipfile.ZipFile(target) as archive:
        if archive.namelist() != list(content):
            return False
        return all(_is_same(archive, name, value) for name, value in content.items())


def _is_same(archive: zipfile.ZipFile, name: str, value: bytes | Path) -> bool:
    # Prepared weights never change in place, and their stamp with every digest is itself a small member.
    if isinstance(value, Path) and value.stat().st_size > _STORED_ABOVE:
        return archive.getinfo(name).file_size == value.stat().st_size
    return archive.read(name) == (value if isinstance(value, bytes) else value.read_bytes())
