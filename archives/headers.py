"""Reads the headers of weights: GGUF, safetensors and config.json. Imports no inference library.

Files are untrusted: any fault of a file is a BuildError that names it.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf

from archives.errors import FETCH_AGAIN, BuildError
from archives.safety import JSON_WITH_CODE, names_in, refuse_auto_map, wanted_files
from archives.weights_info import WeightsInfo
from conductor_core.files import LARGEST_JSON, read_bounded

_LONGEST_HEADER = 100_000_000
_INDEX = "model.safetensors.index.json"
_WORDS = {"F32": "FP32", "F16": "FP16", "BF16": "BF16"}


def read_gguf(path: Path) -> tuple[WeightsInfo, set[str]]:
    """The header of a GGUF file, and the types of its tensors (`Q4_1`, `F32`)."""
    try:
        reader = gguf.GGUFReader(path)
        return _gguf_info(reader), {tensor.tensor_type.name for tensor in reader.tensors}
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, OSError, struct.error) as error:
        raise BuildError(f"{path.name} is not a complete GGUF file ({error})", FETCH_AGAIN) from error


def _gguf_info(reader: Any) -> WeightsInfo:
    def value(key: str) -> Any:
        return reader.fields[key].contents() if key in reader.fields else None

    arch = str(reader.fields["general.architecture"].contents())
    heads, width = value(f"{arch}.attention.head_count"), value(f"{arch}.embedding_length")
    kv_heads = value(f"{arch}.attention.head_count_kv") or heads
    file_type = value("general.file_type")
    if file_type is not None and file_type in {kind.value for kind in gguf.LlamaFileType}:
        name = str(gguf.LlamaFileType(file_type).name)
        quantisation = name.removeprefix("MOSTLY_").removeprefix("ALL_")
    else:
        counts = Counter(tensor.tensor_type.name for tensor in reader.tensors)
        quantisation = str(counts.most_common(1)[0][0])
    return WeightsInfo(
        architecture=arch,
        parameters=sum(int(tensor.n_elements) for tensor in reader.tensors),
        size=sum(int(tensor.n_bytes) for tensor in reader.tensors),
        quantisation=quantisation,
        context=value(f"{arch}.context_length"),
        layers=value(f"{arch}.block_count") or 0,
        kv_heads=max(kv_heads) if isinstance(kv_heads, list) else kv_heads or 0,
        head_dim=value(f"{arch}.attention.key_length") or _per_head(width, heads),
    )


def _per_head(width: int | None, heads: int | list[int] | None) -> int:
    count = max(heads) if isinstance(heads, list) else heads
    return width // count if width and count else 0


def read_folder(folder: Path, model: str) -> WeightsInfo:
    """The headers of a folder of safetensors or OpenVINO IR.

    BuildError for pickles and code (`archives.safety`).
    """
    names = wanted_files(names_in(folder), model)
    for name in JSON_WITH_CODE:
        if name in names:
            refuse_auto_map(_json(folder / name), name, model)
    if "config.json" not in names:
        raise BuildError(f"{model} has no config.json", "name a complete model folder")
    if _INDEX in names:
        parts = _json(folder / _INDEX).get("weight_map")
        missing = sorted(set(parts.values()) - set(names)) if isinstance(parts, dict) else [_INDEX]
        if missing:
            raise BuildError(f"{model} is not complete: {', '.join(map(str, missing[:4]))}", FETCH_AGAIN)
    tensors = [folder / name for name in names if name.endswith(".safetensors")]
    weights = tensors or [folder / name for name in names if name.endswith(".bin")]
    return _folder_info(_json(folder / "config.json"), tensors, sum(path.stat().st_size for path in weights))


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(read_bounded(path, LARGEST_JSON))
    except ValueError as error:
        raise BuildError(f"{path.name} is not JSON ({error})", FETCH_AGAIN) from error
    if not isinstance(values, dict):
        raise BuildError(f"{path.name} is not a JSON object", FETCH_AGAIN)
    return values


def _folder_info(config: Mapping[str, Any], tensors: list[Path], size: int) -> WeightsInfo:
    text = {**config, **(config.get("text_config") or {})}
    heads = text.get("num_attention_heads") or text.get("decoder_attention_heads") or 0
    width = text.get("hidden_size") or text.get("d_model")
    counts: Counter[str] = Counter()
    for path in tensors:
        for name, entry in _safetensors_header(path).items():
            if name != "__metadata__":
                counts[str(entry["dtype"])] += math.prod(entry["shape"])
    quantised = (text.get("quantization_config") or {}).get("quant_method")
    precision = _WORDS.get(counts.most_common(1)[0][0], "BF16") if counts else "IR"
    return WeightsInfo(
        architecture=str(config.get("model_type", "")),
        parameters=counts.total(),
        size=size,
        quantisation=str(quantised) if quantised else precision,
        context=text.get("max_position_embeddings"),
        layers=text.get("num_hidden_layers") or text.get("decoder_layers") or 0,
        kv_heads=text.get("num_key_value_heads") or heads,
        head_dim=text.get("head_dim") or _per_head(width, heads),
    )


def _safetensors_header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LONGEST_HEADER:
                raise ValueError("the header is too long")
            header = json.loads(file.read(length))
        ends = (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        if path.stat().st_size < 8 + length + max(ends, default=0):
            raise ValueError("the file is truncated")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, struct.error) as error:
        raise BuildError(f"{path.name} is not a complete safetensors file ({error})", FETCH_AGAIN) from error
    return dict(header)
