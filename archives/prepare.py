"""Makes the folder that a worker loads, once for all rows and processes that use it.

A folder is filled under a temporary name and then renamed, so that an existing folder is complete. A lock
allows one builder at a time for each model, across processes.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archives.build_context import BuildContext
from archives.digests import Recorded, damaged, sha256_of
from archives.errors import FETCH_AGAIN, BuildCancelled, BuildError
from archives.fetch import YOUR_OWN, SourceRecord, damaged_source, fetch, fetched, listed
from archives.identity import identify
from archives.progress import BuildProgress
from archives.weights_info import Stamp, WeightsInfo, estimate_memory
from conductor_core.catalogue import Precision, Row, RuntimeName
from conductor_core.runtimes import RUNTIMES, Form, possible_forms

_RETRY_S = 0.2

_DTYPES = {
    Precision.FP32: ("fp32", "float32"),
    Precision.FP16: ("fp16", "float16"),
    Precision.BF16: ("bf16", "bfloat16"),
    # bitsandbytes quantises while loading, from the nearest 16-bit form.
    Precision.INT8: ("bf16", "bfloat16"),
    Precision.INT4: ("bf16", "bfloat16"),
}

_LINKED = {"folder", Form.GGUF.value}
"""Forms that load the fetched files themselves."""


@contextmanager
def weights_lock(path: Path, progress: BuildProgress, stop: threading.Event) -> Iterator[None]:
    """Holds a lock on the file `path`; reports once that it waits for another builder.

    BuildCancelled if stopped. The kernel drops the lock when its holder dies, so a lock file that remains
    means nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        if not _taken(file.fileno()):
            progress.update("wait", 0, None, f"another build is making {path.stem}")
            while not _taken(file.fileno()):
                if stop.wait(_RETRY_S):
                    raise BuildCancelled
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Prepared:
    """Weights ready to load: `path` is the file or folder, `identity` their content.

    `made` is True if this call made them.
    """

    path: Path
    identity: str
    info: WeightsInfo
    made: bool


def prepare(row: Row, runtime: RuntimeName, build_context: BuildContext) -> Prepared:
    """The weights of `row` in the form that `runtime` loads; fetches and converts them if needed."""
    identity = identify(row.ref, build_context)
    variant, _, _ = form_of(row, runtime)
    folder = build_context.folder(row.ref, identity)
    found = prepared(row, runtime, identity, build_context)
    if found is None:
        with weights_lock(build_context.lock(folder), build_context.progress, build_context.stop):
            found = _found(folder / variant, identity)
            if found is None:
                found = make(row, runtime, identity, build_context)
    if not found.made:
        check(row, runtime, found, build_context)
    wanted = row.file_precision
    if row.precision is Precision.FILE and wanted and wanted.upper() != found.info.quantisation.upper():
        raise BuildError(
            f"Precision {wanted} is asked for, {row.technical_model_name} has {found.info.quantisation}",
            "leave the Precision cell empty, or use another file",
        )
    return found


def prepared(row: Row, runtime: RuntimeName, identity: str, build_context: BuildContext) -> Prepared | None:
    """The weights of `row` that an earlier build made for `runtime`, or None."""
    variant, _, _ = form_of(row, runtime)
    return _found(build_context.folder(row.ref, identity) / variant, identity)


def check(row: Row, runtime: RuntimeName, found: Prepared, build_context: BuildContext) -> None:
    """Raises BuildError if the files that a worker loads have changed since they were made or fetched."""
    variant, form, _ = form_of(row, runtime)
    folder = build_context.folder(row.ref, found.identity) / variant
    if names := damaged_form(folder, build_context):
        # Made by a build, so it can be made again, also from a user's own file.
        raise BuildError(
            f"{listed(names)} in {folder} changed since it was made",
            f"run: conductor pull --verify {row.slug}",
        )
    source: Path | None = None
    if form in _LINKED:
        # The fetched model whose files `folder` loads or links to, if known.
        stamp, record = Stamp.read(folder), SourceRecord.read(build_context, row.ref, found.identity)
        if stamp and stamp.path:
            source = Path(stamp.path)
        else:
            recorded = Path(record.path) if record else None
            source = fetched(row.ref, found.identity, build_context) or recorded
    if source and (names := damaged_source(row.ref, found.identity, source, build_context)):
        raise BuildError(f"{listed(names)} in {source} changed since it was fetched", cure(row))


def damaged_form(folder: Path, build_context: BuildContext) -> list[str]:
    """Names of files in `folder` that differ from the digests in its stamp."""
    stamp = Stamp.read(folder)
    if stamp is None:
        return []
    seen = build_context.digests(folder.parent, f"{folder.name}-seen")
    return damaged(Recorded(folder, stamp.files, seen, build_context.stop), whole=build_context.verify)


def form_of(row: Row, runtime: RuntimeName) -> tuple[str, str, str | None]:
    """The name of the row's folder of weights, their form, and their data type.

    The form `folder` is a model's own folder as it is; the others, values of `Form`, are made from a GGUF.
    """
    if not row.ref.is_gguf:
        return f"{runtime}-folder", "folder", None
    served = RUNTIMES[runtime].forms
    form = next(form for form in possible_forms(row.ref, row.precision) if form in served)
    if form is Form.SAFETENSORS:
        variant, dtype = _DTYPES[row.precision]
        return variant, form.value, dtype
    return runtime, form.value, None


def _found(folder: Path, identity: str) -> Prepared | None:
    stamp = Stamp.read(folder)
    if stamp is None or stamp.source != identity:
        return None
    path = Path(stamp.path) if stamp.path else folder
    # A link into a model that was moved does not exist.
    whole = path.exists() and all(file.exists() for file in folder.iterdir())
    return Prepared(path, identity, stamp.info, made=False) if whole else None


def make(row: Row, runtime: RuntimeName, identity: str, build_context: BuildContext) -> Prepared:
    """Fetches and converts, and replaces an existing folder. Call it under the weights' lock."""
    variant, form, dtype = form_of(row, runtime)
    folder = build_context.folder(row.ref, identity) / variant
    request = {"form": form, "dtype": dtype, "runtime": runtime, "name": row.ref.short_name}
    source = fetch(row.ref, identity, build_context)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Removes temporary folders of a killed build; the lock ensures that no other build uses them.
    for left in (*folder.parent.glob(".*-*"), *folder.parent.glob("source/.download-*")):
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        work = {**request, "source": str(source), "target": str(temporary)}
        answer = _convert(row, work, build_context)
        info = WeightsInfo(**answer["info"])
        files = sorted(path for path in temporary.iterdir() if path.is_file() and not path.is_symlink())
        digests = {path.name: sha256_of(path) for path in files}
        stamp = Stamp(
            source=identity,
            info=info,
            path=answer["path"],
            libraries=answer["libraries"],
            files=digests,
            estimated_memory=estimate_memory(info, runtime, row.precision.value),
        )
        stamp.write(temporary)
        _publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Prepared(Path(stamp.path) if stamp.path else folder, identity, info, made=True)


def _convert(row: Row, work: Mapping[str, str | None], build_context: BuildContext) -> dict[str, Any]:
    try:
        # Offline: a library that looks for a missing file on the hub would wait, or download code.
        return build_context.run(
            "archives.convert_job", work, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false"
        )
    except BuildError as error:
        if error.cure != FETCH_AGAIN:
            raise
        raise BuildError(error.fault, cure(row)) from error


def cure(row: Row) -> str:
    """The remedy for damaged files of the row's model, for a message."""
    return YOUR_OWN if row.ref.kind == "path" else f"run: conductor pull --verify {row.slug}"


def _publish(temporary: Path, folder: Path) -> None:
    """Renames `temporary` to `folder`; an existing `folder` has no valid stamp or a missing source."""
    temporary.chmod(0o755)
    if folder.exists():
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".old-"))
        folder.rename(old / folder.name)
        shutil.rmtree(old)
    temporary.rename(folder)
