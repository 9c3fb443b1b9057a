"""Checks that a runtime supports an architecture and a quantisation; runs in a child, before slow work."""

from __future__ import annotations

from pathlib import Path

from archives.errors import BuildError
from archives.weights_info import WeightsInfo
from conductor_core.runtimes import RuntimeSpec
from handlers.runtimes.sentence_modules import SentenceModules, SentenceModulesError, read_modules

_ENCODER_DECODERS = frozenset({"t5", "mt5", "umt5", "longt5"})
_DEQUANTISE = "set Precision to BF16, 8-bit or 4-bit"


def check_gguf(spec: RuntimeSpec, info: WeightsInfo, types: set[str], name: str) -> None:
    """Raises BuildError if the runtime's library cannot read a GGUF of this architecture and tensor types."""
    if spec.architectures and info.architecture not in spec.architectures:
        raise BuildError(
            f"{spec.name} reads GGUF files of {_listed(spec.architectures)}, {name} is {info.architecture}",
            _DEQUANTISE,
        )
    unknown = types - spec.tensor_types
    if spec.tensor_types and unknown:
        raise BuildError(
            f"{spec.name} reads GGUF tensors of {_listed(spec.tensor_types)}, {name} has {_listed(unknown)}",
            f"use another file of the model (Q4_0, Q4_1, Q4_K_M or Q8_0), or {_DEQUANTISE}",
        )


def check_transformers_gguf(info: WeightsInfo, name: str) -> None:
    """Raises BuildError if transformers cannot read a GGUF, or its tokenizer, of this architecture."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    if info.architecture not in GGUF_SUPPORTED_ARCHITECTURES:
        raise BuildError(
            f"transformers cannot read a GGUF file of the architecture {info.architecture} ({name})",
            "use the model's safetensors repository",
        )


def check_embedding(info: WeightsInfo, folder: Path, name: str) -> SentenceModules:
    """The pooling settings of the folder's embedding model; BuildError if it is not supported."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    if info.architecture not in MODEL_MAPPING_NAMES or info.architecture in _ENCODER_DECODERS:
        raise BuildError(
            f"transformers cannot make embeddings with the architecture {info.architecture!r} ({name})",
            "use a sentence-transformers model of a BERT-like or decoder architecture",
        )
    try:
        return read_modules(folder)
    except SentenceModulesError as error:
        raise BuildError(f"{name} cannot be served: {error}", "use another embedding model") from error


def check_transformers(info: WeightsInfo, name: str) -> None:
    """Raises BuildError if transformers has no text model of this `model_type`."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )

    known = {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES}
    if info.architecture not in known:
        raise BuildError(
            f"transformers cannot generate text with the architecture {info.architecture!r} ({name})",
            "use a text model",
        )


def _listed(words: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(words))
