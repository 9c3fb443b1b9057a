"""Whether a .mar is one that TorchServe can be given: archives are checked before it unpacks any of them.

TorchServe itself accepts names that leave its folder by a prefix (after CVE-2023-48299), unpacks without a
limit, and says nothing of the cause.
"""

from __future__ import annotations

import ast
import json
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from archives.errors import BuildError
from archives.manifest import CONFIG, MANIFEST, check_model_name, handler_name
from handlers.worker_config import WorkerConfig, WorkerConfigError

LARGEST_FILE = 16 * 1024 * 1024
"""Bytes of one member outside `weights/`."""
MOST_FILES = 4096
_LARGEST_RATIO = 1000
_PIECE = 1024 * 1024
_KEYS = {"createdOn", "runtime", "archiverVersion", "model"}
_MODEL_KEYS = {"modelName", "modelVersion", "handler", "configFile"}


class InvalidArchiveError(BuildError):
    """An archive that must not reach TorchServe."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"{path.name}: {fault}", "build it again")


def validate_archive(path: Path) -> None:
    """Check every member of the archive at `path`; InvalidArchiveError names the first fault."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive)
    except BuildError as error:
        raise InvalidArchiveError(path, error.fault) from error
    except FileNotFoundError as error:
        raise InvalidArchiveError(path, "there is no such archive") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise InvalidArchiveError(path, f"not a whole zip file ({error})") from error
    except (ValueError, SyntaxError) as error:
        raise InvalidArchiveError(path, str(error)) from error


def _check(archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(names) > MOST_FILES or len(set(names)) != len(names):
        raise ValueError("too many members, or two of one name")
    for entry in entries:
        _check_entry(entry)
    for entry in entries:
        _check_content(archive, entry)
    manifest = _manifest(_read(archive, MANIFEST))
    _check_config(_read(archive, CONFIG), manifest)
    _check_stub(_read(archive, manifest["handler"]).decode(), manifest["handler"])
    _read(archive, "handlers/engine_handler.py")


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
        raise ValueError(f"member {name} is no regular file")
    if entry.flag_bits & 1:
        raise ValueError(f"member {name} is encrypted")
    small = not name.startswith("weights/")
    if small and entry.file_size > LARGEST_FILE:
        raise ValueError(f"member {name} has {entry.file_size} bytes, more than {LARGEST_FILE}")
    if entry.file_size > _LARGEST_RATIO * max(entry.compress_size, 1):
        raise ValueError(f"member {name} unpacks to more than {_LARGEST_RATIO} times its size")


def _check_content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Read to the end, which compares length and checksum, without keeping it."""
    with archive.open(entry) as file:
        while file.read(_PIECE):
            pass


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except KeyError as error:
        raise ValueError(f"{name} is missing") from error


def _manifest(text: bytes) -> dict[str, str]:
    values = json.loads(text)
    model = values.get("model") if isinstance(values, dict) else None
    if not isinstance(model, dict) or set(values) != _KEYS or set(model) != _MODEL_KEYS:
        raise ValueError(f"{MANIFEST} does not have the keys {', '.join(sorted(_KEYS | _MODEL_KEYS))}")
    if not all(isinstance(value, str) for value in model.values()):
        raise ValueError(f"{MANIFEST} has a value that is no text")
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


def _check_stub(source: str, name: str) -> None:
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    if len(classes) != 1:
        raise ValueError(f"{name} has {len(classes)} classes, TorchServe wants exactly one")
