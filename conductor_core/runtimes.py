"""Which runtime can serve which weights: the rules, not the libraries."""

from __future__ import annotations

from typing import Literal

from conductor_core.catalogue import ModelRef, Precision, RuntimeName
from conductor_core.issues import CellError

_WORDS = "FP32, FP16, BF16, 8-bit or 4-bit"


def resolve_runtime(
    ref: ModelRef, precision: Precision, runtime: RuntimeName | Literal["auto"]
) -> RuntimeName:
    """The runtime that serves `ref` at `precision`; CellError where the one asked for cannot.

    openvino serves a GGUF as it is, or a folder that holds OpenVINO IR; transformers everything else.
    """
    own = precision is Precision.FILE
    if runtime == "vllm":
        raise CellError("expected auto, transformers or openvino; vllm is not available in this version")
    if runtime == "auto":
        return "openvino" if ref.is_gguf and own else "transformers"
    if runtime == "openvino" and not (own and (ref.is_gguf or ref.kind == "path")):
        raise CellError(
            "openvino serves a GGUF at its own quantisation or a local folder of OpenVINO IR, "
            f"with Precision left empty; {precision.value} of this model is served by transformers"
        )
    if runtime == "transformers" and own and ref.is_gguf:
        raise CellError(
            f"transformers serves a GGUF dequantised: Precision must be {_WORDS}, or Runtime openvino"
        )
    return runtime


def check_device(runtime: RuntimeName, device: str) -> None:
    """CellError where `runtime` does not run on `device`."""
    if runtime == "openvino" and device.startswith("cuda"):
        raise CellError(
            f"expected auto or cpu, since openvino serves on a CPU; on a GPU Precision must be {_WORDS}"
        )
