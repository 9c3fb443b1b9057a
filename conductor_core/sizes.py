"""Estimates the memory of a model that was never measured, from its row."""

from __future__ import annotations

import re

from conductor_core.catalogue import Precision, Row

BYTES_PER_PARAMETER = {
    Precision.FP32.value: 4.0,
    Precision.FP16.value: 2.0,
    Precision.BF16.value: 2.0,
    Precision.INT8.value: 1.1,
    Precision.INT4.value: 0.65,
}
"""Bytes per weight by precision; those of 8 and 4 bits include scales, and embeddings of 16 bits."""

_GGUF_BITS = re.compile(r"(?:Q|F)([0-9]+)")
# Includes scales, and the layers that keep a higher precision.
_GGUF_EXTRA_BITS = 0.5
# Checkpoints have 16 bits unless stated otherwise.
_USUAL_BYTES = 2.0
_SIZE_IN_NAME = re.compile(
    r"(?<![A-Za-z0-9.])(?:([0-9]{1,3})x)?([0-9]{1,4}(?:\.[0-9]{1,3})?)([BM])(?![A-Za-z0-9])", re.IGNORECASE
)


def bytes_per_parameter(row: Row) -> float | None:
    """Bytes per weight at the row's precision; None for a file's own precision that is not named."""
    if row.precision is not Precision.FILE:
        return BYTES_PER_PARAMETER[row.precision.value]
    bits = _GGUF_BITS.search(row.file_precision or "")
    return (float(bits[1]) + _GGUF_EXTRA_BITS) / 8 if bits else None


def parameters_of(row: Row) -> float | None:
    """The number of parameters, from the model's names ("8B", "8x7B") or from declared memory, or None."""
    for name in (row.ref.file or row.ref.source, row.ref.source, row.model):
        sizes = [
            int(match[1] or 1) * float(match[2]) * (1e9 if match[3] in "Bb" else 1e6)
            for match in _SIZE_IN_NAME.finditer(name)
        ]
        if sizes:
            return max(sizes)
    if row.declared_memory is None:
        return None
    return row.declared_memory / (bytes_per_parameter(row) or _USUAL_BYTES)


def needed_memory(row: Row) -> int:
    """Bytes to plan for one worker: the larger of declared memory and the estimated size of the weights."""
    width = bytes_per_parameter(row)
    if width is None and row.declared_memory is not None:
        return row.declared_memory
    return max(row.declared_memory or 0, int((parameters_of(row) or 0.0) * (width or _USUAL_BYTES)))
