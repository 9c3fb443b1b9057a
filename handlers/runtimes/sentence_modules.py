"""Pooling settings of an embedding model, read from the files of its folder.

The files are sentence-transformers' `modules.json`, the pooling's `config.json` and
`sentence_bert_config.json`. The runtime does the arithmetic.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KNOWN = ("Transformer", "Pooling", "Normalize")
POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
"""Pooling modes by key, in the order in which a model with several modes concatenates their vectors."""
_WORDS = {"cls": "cls", "max": "max", "mean": "mean", "lasttoken": "last"}
_HEADLESS = ("Model", "ForMaskedLM")
_WITH_HEAD = ("HeadModel", "HeadsModel", "MTModel")
_POSITIONS_AFTER_PADDING = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet"})


class SentenceModulesError(ValueError):
    """The folder's model has an unsupported part; the message names it in one line."""


@dataclass(frozen=True, slots=True)
class SentenceModules:
    """Pooling settings.

    `poolings` are cls, max, mean or last; `max_tokens` includes the special tokens of a text.
    """

    poolings: tuple[str, ...]
    max_tokens: int | None
    lower_case: bool = False


def makes_embeddings(folder: Path) -> bool:
    """True if the folder has an embedding model: it has `modules.json`, or no head that generates text."""
    if (folder / "modules.json").exists():
        return True
    names = _read(folder / "config.json").get("architectures") or []
    headless = [str(name).endswith(_HEADLESS) and not str(name).endswith(_WITH_HEAD) for name in names]
    return bool(headless) and all(headless)


def read_modules(folder: Path) -> SentenceModules:
    """The settings in `folder`; mean pooling by default. SentenceModulesError for an unsupported part."""
    path = folder / "modules.json"
    value = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    modules = [module for module in value if isinstance(module, dict)] if isinstance(value, list) else []
    types = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    parts = [(name, str(module.get("path", ""))) for name, module in zip(types, modules, strict=True)]
    if unknown := [name for name, _ in parts if name not in KNOWN]:
        raise SentenceModulesError(f"its module {unknown[0] or '?'} is not one of {', '.join(KNOWN)}")
    paths = [path for name, path in parts if name == "Pooling"]
    bert = _read(folder / "sentence_bert_config.json")
    return SentenceModules(
        poolings=_poolings(folder, paths[0]) if paths else ("mean",),
        max_tokens=_max_tokens(folder, bert.get("max_seq_length")),
        lower_case=bool(bert.get("do_lower_case")),
    )


def _poolings(folder: Path, path: str) -> tuple[str, ...]:
    if not path or "/" in path or path.startswith("."):
        raise SentenceModulesError(
            f"its pooling configuration is in {path!r}, which is not a folder of the model"
        )
    config = _read(folder / path / "config.json")
    if word := config.get("pooling_mode"):
        words = [word] if isinstance(word, str) else list(word)
        return tuple(_known(str(name), _WORDS) for name in words)
    chosen = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    for name in chosen:
        _known(name, POOLINGS)
    return tuple(word for name, word in POOLINGS.items() if name in chosen) or ("mean",)


def _known(name: str, words: dict[str, str]) -> str:
    if name not in words:
        raise SentenceModulesError(f"its pooling {name} is not one of {', '.join(words)}")
    return words[name]


def _max_tokens(folder: Path, own: Any) -> int | None:
    """The smallest limit of sentence_bert_config.json, the positions and the tokenizer."""
    config = _read(folder / "config.json")
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in _POSITIONS_AFTER_PADDING:
        positions -= int(config.get("pad_token_id") or 0) + 1
    tokenizer = _read(folder / "tokenizer_config.json").get("model_max_length")
    known = [value for value in (own, positions, tokenizer) if isinstance(value, int) and value > 0]
    return min(known, default=None)


def _read(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return value if isinstance(value, dict) else {}
