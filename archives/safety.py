"""Selects the files of a model to take, and refuses pickles and code, which must never reach a loader.

Uses names and parsed JSON; opens no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from archives.errors import BuildError

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_TAKEN = (".safetensors", ".json", ".jinja", ".model", ".spm", ".xml", "vocab.txt", "merges.txt")
_MODULE = re.compile(r"[0-9]+_[A-Za-z]+/config\.json")
"""Name of the configuration file of a sentence-embedding model's part."""
_DUPLICATE = "consolidated"
"""Prefix of a second copy of the weights in some repositories."""

JSON_WITH_CODE = ("config.json", "tokenizer_config.json", "processor_config.json", "generation_config.json")


def wanted_files(names: Iterable[str], model: str, *, gguf: bool = False) -> list[str]:
    """The files of a model folder to take, small ones first; BuildError names a refused file.

    `gguf` takes GGUF files if there are no other weights, as in a folder that the build made.
    Only files of the top level count, and the parts of an embedding model with `modules.json`: other
    sub-folders have other formats of the same weights.
    """
    known = sorted(names)
    top = [name for name in known if "/" not in name]
    modules = [name for name in known if _MODULE.fullmatch(name)] if "modules.json" in top else []
    code = [name for name in top if name.endswith(".py")]
    if code:
        raise BuildError(
            f"{model} contains code ({', '.join(code)}), which is never run",
            "use a model that transformers supports by itself, or a copy of this one without these files",
        )
    wanted = [name for name in top if _is_taken(name) or _is_ir_weights(name, top)]
    if gguf and not any(_is_weights(name) for name in wanted):
        wanted += [name for name in top if name.endswith(".gguf")]
    if not any(_is_weights(name) for name in wanted):
        pickles = [name for name in top if name.endswith(_PICKLES)]
        if pickles:
            raise BuildError(
                f"{model} has its weights only as pickle files ({', '.join(pickles)}), which can run code",
                "use a repository or revision with .safetensors files, or a GGUF file",
            )
        raise BuildError(f"{model} has no .safetensors, OpenVINO or GGUF weights", "check the name")
    return sorted([*modules, *wanted], key=lambda name: (_is_weights(name), name))


def names_in(folder: Path) -> list[str]:
    """Names of the files of a local model folder, for `wanted_files`."""
    found = (*folder.glob("*"), *folder.glob("*/config.json"))
    return [path.relative_to(folder).as_posix() for path in found if path.is_file()]


def refuse_auto_map(config: Mapping[str, Any], name: str, model: str) -> None:
    """Raises BuildError if the JSON file `name` requires the model's own code."""
    if config.get("auto_map"):
        raise BuildError(
            f"{model} needs its own code (auto_map in {name}), which is never run",
            "use a model that transformers supports by itself",
        )


def _is_taken(name: str) -> bool:
    return name.endswith(_TAKEN) and not (name.startswith(_DUPLICATE) and name.endswith(".safetensors"))


def _is_ir_weights(name: str, names: list[str]) -> bool:
    return name.endswith(".bin") and f"{name.removesuffix('.bin')}.xml" in names


def _is_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".gguf"))
