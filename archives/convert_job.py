"""Child process: converts a model's files into the folder that a worker loads.

Imports torch, transformers or openvino inside the functions that need them. Each folder has `tokenizer.json`,
`tokenizer_config.json` with the chat template, `config.json` and `generation_config.json`, so that workers
need no GGUF reader.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from archives.errors import BuildError
from archives.headers import read_folder, read_gguf
from archives.job import Report, serve_job
from archives.safety import names_in
from archives.supported import (
    check_embedding,
    check_gguf,
    check_transformers,
    check_transformers_gguf,
)
from archives.weights_info import WeightsInfo
from conductor_core.runtimes import RUNTIMES, Form
from handlers.runtimes.sentence_modules import makes_embeddings

_LIBRARIES = {
    Form.IR.value: ("openvino", "openvino-genai", "openvino-tokenizers", "transformers", "gguf"),
    Form.SAFETENSORS.value: ("torch", "transformers", "safetensors", "gguf"),
    Form.GGUF.value: ("transformers", "gguf"),
    "folder": ("transformers",),
}
"""Distributions that make each form."""
_GGUF = "model.gguf"
_IR = "openvino_model.xml"


def work(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """Fills `target` from `source` in `form`: `folder`, or a value of `Form` (safetensors in `dtype`).

    The result has `info` (a WeightsInfo), `libraries`, and `path`, the path to load (null for `target`).
    """
    os.umask(0o022)
    source, target, name = Path(request["source"]), Path(request["target"]), request["name"]
    report("convert", 0, None, f"reading {name}")
    if request["form"] == "folder":
        info, path = _folder(source, target, request["runtime"], name)
    else:
        info, path = _gguf(request, source, target, report), None
    for made in target.iterdir():
        if made.is_file() and not made.is_symlink():
            made.chmod(0o644)
    libraries = {library: version(library) for library in _LIBRARIES[request["form"]]}
    return {"info": _plain(info), "libraries": libraries, "path": path}


def _plain(info: WeightsInfo) -> dict[str, Any]:
    return {name: getattr(info, name) for name in WeightsInfo.__slots__}


def _gguf(request: dict[str, Any], source: Path, target: Path, report: Report) -> WeightsInfo:
    name, form = request["name"], Form(request["form"])
    info, types = read_gguf(source)
    check_transformers_gguf(info, name)
    if form is not Form.SAFETENSORS:
        check_gguf(RUNTIMES[request["runtime"]], info, types, name)
    link = target / _GGUF
    link.symlink_to(source.resolve())
    steps = 3 if form is Form.SAFETENSORS else 2
    report("convert", 1, steps, f"{name}: tokenizer")
    _save_tokenizer(target)
    if form is Form.IR:
        _save_ir(link)
    elif form is Form.SAFETENSORS:
        report("convert", 2, steps, f"{name}: weights to {request['dtype']}")
        _save_safetensors(target, request["dtype"])
    if form is not Form.GGUF:
        link.unlink()
    report("convert", steps, steps, f"{name}: done")
    return info


def _save_tokenizer(target: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    AutoTokenizer.from_pretrained(target, gguf_file=_GGUF).save_pretrained(target, save_jinja_files=False)
    config = AutoConfig.from_pretrained(target, gguf_file=_GGUF)
    config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]]
    config.save_pretrained(target)
    GenerationConfig.from_model_config(config).save_pretrained(target)


def _save_ir(gguf: Path) -> None:
    import openvino_genai

    # It writes model, tokenizer and detokenizer next to the GGUF.
    openvino_genai.LLMPipeline(str(gguf), "CPU", enable_save_ov_model=True)
    if not (gguf.parent / _IR).exists():
        raise BuildError("openvino-genai did not write a model", "set Precision to BF16, 8-bit or 4-bit")


def _save_safetensors(target: Path, dtype: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        target,
        gguf_file=_GGUF,
        dtype=getattr(torch, dtype),
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(target)


def _folder(source: Path, target: Path, runtime: str, name: str) -> tuple[WeightsInfo, str | None]:
    info = read_folder(source, name)
    form = Form.IR if (source / _IR).exists() else Form.SAFETENSORS
    if form not in RUNTIMES[runtime].forms:
        able = [spec.name for spec in RUNTIMES.values() if form in spec.forms]
        raise BuildError(
            f"{name} holds {form.value}, which {runtime} does not serve",
            f"set Runtime to {' or '.join(able)}",
        )
    if form is Form.SAFETENSORS:
        info = _checked(info, source, name)
    if (source / "tokenizer.json").exists() and (source / "tokenizer_config.json").exists():
        return info, str(source)
    for file in names_in(source):
        (target / file).parent.mkdir(exist_ok=True)
        (target / file).symlink_to((source / file).resolve())
    _convert_tokenizer(source, target, info.architecture, name)
    return info, None


def _checked(info: WeightsInfo, folder: Path, name: str) -> WeightsInfo:
    if not makes_embeddings(folder):
        check_transformers(info, name)
        return info
    modules = check_embedding(info, folder, name)
    # No KV cache, because every text is read once.
    return replace(info, context=modules.max_tokens or info.context, layers=0)


def _convert_tokenizer(source: Path, target: Path, architecture: str, name: str) -> None:
    from archives.translation_tokenizer import FAMILIES, convert_translation_tokenizer

    for made in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (target / made).unlink(missing_ok=True)
    if architecture in FAMILIES and not (source / "tokenizer.json").exists():
        convert_translation_tokenizer(source, target, architecture, name)
    else:
        _save_fast_tokenizer(source, target, name)


def _save_fast_tokenizer(source: Path, target: Path, name: str) -> None:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise BuildError(
            f"{name} does not have a readable tokenizer ({str(error).splitlines()[0]})",
            "name a model with a tokenizer.json",
        ) from error
    tokenizer.save_pretrained(target, save_jinja_files=False)
    if not (target / "tokenizer.json").exists():
        raise BuildError(f"{name} does not have a fast tokenizer", "name a model with a tokenizer.json")


if __name__ == "__main__":
    serve_job(work)
