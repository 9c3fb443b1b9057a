"""Loads a folder of safetensors: precision, device, end tokens.

Knows `from_pretrained` and bitsandbytes; nothing of batching. Never runs code of a repository
(`trust_remote_code` is off), never reads pickles, never connects to the hub.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BitsAndBytesConfig,
)
from transformers import logging as transformers_logging

from handlers.runtimes.base import RuntimeConfig

DTYPES = {
    "FP32": torch.float32,
    "FP16": torch.float16,
    "BF16": torch.bfloat16,
    "8-bit": torch.float16,
    "4-bit": torch.bfloat16,
}


class ModelLoadError(Exception):
    """Weights that this runtime cannot load; the message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in evaluation mode with the facts that runtimes need. `eos_ids` may be empty."""

    model: Any
    eos_ids: tuple[int, ...]
    vocabulary: int
    max_positions: int
    weight_bytes: int
    tokenizer_file: Path


def load(config: RuntimeConfig) -> Loaded:
    """Loads `config.model_path` in its precision on its device.

    Raises ModelLoadError for an unknown precision or a missing device.
    """
    prepare_process(config)
    architecture = AutoConfig.from_pretrained(
        config.model_path, local_files_only=True, trust_remote_code=False
    )
    family = AutoModelForSeq2SeqLM if architecture.is_encoder_decoder else AutoModelForCausalLM
    return described(_from_folder(family, config), config.model_path)


def load_headless(config: RuntimeConfig) -> Any:
    """Loads the model without a head: its output is the last hidden states. Raises the errors of `load`."""
    prepare_process(config)
    return _from_folder(AutoModel, config)


def _from_folder(family: Any, config: RuntimeConfig) -> Any:
    device = device_of(config)
    # Only if flash-attn is installed: the library's own switch would download a kernel from the hub.
    has_flash = device.type == "cuda" and importlib.util.find_spec("flash_attn") is not None
    return family.from_pretrained(
        config.model_path,
        dtype=dtype_of(config.precision),
        quantization_config=_quantization(config.precision),
        device_map={"": str(device)} if device.type == "cuda" else None,
        attn_implementation="flash_attention_2" if has_flash else "sdpa",
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
    ).eval()


def described(model: Any, folder: Path) -> Loaded:
    """A loaded model with its facts."""
    text = model.config.get_text_config()
    return Loaded(
        model=model,
        eos_ids=_eos_ids(model.generation_config.eos_token_id, text.eos_token_id),
        vocabulary=text.vocab_size,
        max_positions=text.max_position_embeddings,
        weight_bytes=model.get_memory_footprint(),
        tokenizer_file=folder / "tokenizer.json",
    )


def is_sequence_to_sequence(folder: Path) -> bool:
    """True if the folder's config.json is of an encoder-decoder model."""
    architecture = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return bool(architecture.is_encoder_decoder)


def prepare_process(config: RuntimeConfig) -> None:
    """Sets options of the whole worker process: torch's threads, no progress bars."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def device_of(config: RuntimeConfig) -> torch.device:
    """The torch device of `cpu`, `cuda` or `cuda:N`; ModelLoadError if the machine has no such GPU."""
    device = torch.device(config.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelLoadError(
            f"device {config.device} is not available: torch finds {torch.cuda.device_count()} GPUs"
        )
    return device


def dtype_of(precision: str) -> torch.dtype:
    """The data type of the model's computations: float16 for 8-bit weights, bfloat16 for 4-bit ones."""
    try:
        return DTYPES[precision]
    except KeyError:
        raise ModelLoadError(f"precision {precision!r} is not one of {', '.join(DTYPES)}") from None


def _quantization(precision: str) -> BitsAndBytesConfig | None:
    if precision == "8-bit":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    if precision == "4-bit":
        return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype_of(precision)
        )
    return None


def _eos_ids(*sources: int | list[int] | None) -> tuple[int, ...]:
    ids: list[int] = []
    for source in sources:
        if source is not None:
            ids.extend(source if isinstance(source, Iterable) else [source])
    return tuple(dict.fromkeys(i for i in ids if i >= 0))
