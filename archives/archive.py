"""Writes and validates .mar files; equal inputs give equal bytes.

Members have a fixed order and fixed dates, and the manifest is made by model_archiver's own classes. Archives
are checked before TorchServe unpacks them: it accepts member names that escape its folder by a prefix (after
CVE-2023-48299), unpacks without a size limit, and does not report the cause of a failure.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_archiver_error import ModelArchiverError
from model_archiver.model_packaging_utils import ModelExportUtils

import handlers
from archives.errors import BuildError
from archives.safety import names_in, wanted_files
from handlers.worker_config import WorkerConfig, WorkerConfigError

MANIFEST = "MAR-INF/MANIFEST.json"
CONFIG = "model-config.yaml"
CREATED = "01/01/1980 00:00:00"
"""The first date that a zip member can have."""

LARGEST_MEMBER = 16 * 1024 * 1024
"""Most bytes of one member outside `weights/`."""
MOST_MEMBERS = 4096
_LARGEST_RATIO = 1000
_PIECE = 1024 * 1024
_MANIFEST_KEYS = {"createdOn", "runtime", "archiverVersion", "model"}
_MODEL_KEYS = {"modelName", "modelVersion", "handler", "configFile"}

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


def handler_name(model: str) -> str:
    """The file name of the handler stub.

    TorchServe imports it by basename, so it must be an identifier.
    """
    return re.sub(r"[^A-Za-z0-9_]", "_", model) + "_handler.py"


def manifest_json(name: str, version: str, handler: str) -> bytes:
    """The manifest of the model `name` as JSON; BuildError for a name that TorchServe refuses."""
    check_model_name(name)
    config = ModelArchiverConfig(model_name=name, handler=handler, version=version, config_file=CONFIG)
    values = json.loads(ModelExportUtils.generate_manifest_json(config))
    return json.dumps({**values, "createdOn": CREATED}, indent=2).encode()


def check_model_name(name: str) -> None:
    """Raises BuildError if the archiver's own rule refuses `name`."""
    try:
        ModelExportUtils.check_model_name_regex_or_exit(name)
    except ModelArchiverError as error:
        raise BuildError(
            f"{name!r} is not a valid TorchServe model name", "use letters, digits, _ - ."
        ) from error


class InvalidArchiveError(BuildError):
    """An archive that must not reach TorchServe."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"{path.name}: {fault}", "build it again")


def validate_archive(path: Path) -> None:
    """Checks every member of the archive at `path`; InvalidArchiveError names the first fault."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_archive(archive)
    except BuildError as error:
        raise InvalidArchiveError(path, error.fault) from error
    except FileNotFoundError as error:
        raise InvalidArchiveError(path, "there is no such archive") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise InvalidArchiveError(path, f"not a complete zip file ({error})") from error
    except (ValueError, SyntaxError) as error:
        raise InvalidArchiveError(path, str(error)) from error


def _check_archive(archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(names) > MOST_MEMBERS or len(set(names)) != len(names):
        raise ValueError("too many members, or two with the same name")
    for entry in entries:
        _check_entry(entry)
    for entry in entries:
        # Reading a member to its end compares length and checksum, without storing it.
        with archive.open(entry) as file:
            while file.read(_PIECE):
                pass
    manifest = _read_manifest(_read_member(archive, MANIFEST))
    _check_config(_read_member(archive, CONFIG), manifest)
    stub = ast.parse(_read_member(archive, manifest["handler"]).decode())
    classes = [node for node in stub.body if isinstance(node, ast.ClassDef)]
    if len(classes) != 1:
        raise ValueError(f"{manifest['handler']} has {len(classes)} classes, TorchServe needs exactly one")
    _read_member(archive, "handlers/engine_handler.py")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    parts = PurePosixPath(name).parts
    if (
        name.startswith("/")
        or "\\" in name
        or ".." in parts
        or not name.isprintable()
        or name != "/".join(parts)
    ):
        raise ValueError(f"member {name[:80]!r} is not a plain relative path")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in {0, stat.S_IFREG}:
        raise ValueError(f"member {name} is not a regular file")
    if entry.flag_bits & 1:
        raise ValueError(f"member {name} is encrypted")
    small = not name.startswith("weights/")
    if small and entry.file_size > LARGEST_MEMBER:
        raise ValueError(f"member {name} has {entry.file_size} bytes, more than {LARGEST_MEMBER}")
    if entry.file_size > _LARGEST_RATIO * max(entry.compress_size, 1):
        raise ValueError(f"member {name} unpacks to more than {_LARGEST_RATIO} times its size")


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except KeyError as error:
        raise ValueError(f"{name} is missing") from error


def _read_manifest(text: bytes) -> dict[str, str]:
    values = json.loads(text)
    model = values.get("model") if isinstance(values, dict) else None
    if not isinstance(model, dict) or set(values) != _MANIFEST_KEYS or set(model) != _MODEL_KEYS:
        raise ValueError(
            f"{MANIFEST} does not have the keys {', '.join(sorted(_MANIFEST_KEYS | _MODEL_KEYS))}"
        )
    if not all(isinstance(value, str) for value in model.values()):
        raise ValueError(f"{MANIFEST} has a value that is not a string")
    check_model_name(model["modelName"])
    if model["handler"] != handler_name(model["modelName"]) or model["configFile"] != CONFIG:
        raise ValueError(f"{MANIFEST} names another handler or configuration")
    return model


def _check_config(text: bytes, manifest: dict[str, str]) -> None:
    try:
        values: Any = yaml.safe_load(text)
        config = WorkerConfig.from_yaml(values["conductor"])
    except (yaml.YAMLError, KeyError, TypeError, WorkerConfigError) as error:
        raise ValueError(f"{CONFIG} is not a worker's configuration ({error})") from error
    if config.version != manifest["modelVersion"]:
        raise ValueError(f"{CONFIG} and {MANIFEST} have different versions")


@dataclass(frozen=True, slots=True)
class ArchiveSpec:
    """One archive. `config` becomes model-config.yaml; `bundle` is a weights folder to put inside."""

    name: str
    version: str
    config: Mapping[str, Any]
    bundle: Path | None = None


def handler_files(root: Path = HANDLERS) -> dict[str, bytes]:
    """All files of the `handlers` package by their name in the archive, without caches."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {f"handlers/{path.relative_to(root).as_posix()}": path.read_bytes() for path in files}


def members(spec: ArchiveSpec) -> Members:
    """Contents by member name; a bundled weights file is given by its path, because it may be large."""
    stub = handler_name(spec.name)
    content: Members = {
        MANIFEST: manifest_json(spec.name, spec.version, stub),
        CONFIG: yaml.safe_dump(dict(spec.config), sort_keys=True, allow_unicode=True).encode(),
        stub: _STUB.format(name=spec.name).encode(),
        **handler_files(),
    }
    if spec.bundle is not None:
        names = wanted_files(names_in(spec.bundle), str(spec.bundle), gguf=True)
        content.update({f"{BUNDLED}/{name}": spec.bundle / name for name in names})
    return dict(sorted(content.items()))


def write_archive(spec: ArchiveSpec, target: Path) -> bool:
    """Writes the archive of `spec` to `target`, validated and atomically.

    False if `target` already has this content.
    """
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
    # Prepared weights never change in place, and their stamp with all digests is itself a small member.
    if isinstance(value, Path) and value.stat().st_size > _STORED_ABOVE:
        return archive.getinfo(name).file_size == value.stat().st_size
    return archive.read(name) == (value if isinstance(value, bytes) else value.read_bytes())
