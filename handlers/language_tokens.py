"""Which languages a translation model marks with tokens of their own, read from its folder.

NLLB writes `fra_Latn`, M2M100 `__fr__`, mBART `fr_XX`; a Marian model of one pair marks none.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import tokenizers

MARK = re.compile(r"([a-z]{3}_[A-Z][a-z]{3})|__([a-z]{2,3})__|([a-z]{2}_[A-Z]{2})")
MODELS = frozenset({"m2m_100", "nllb-moe", "mbart", "marian"})


def language_tokens(tokenizer: tokenizers.Tokenizer, folder: Path) -> dict[str, int] | None:
    """Language codes to token ids, empty for a model of one pair, None for any other model."""
    if _read(folder / "config.json").get("model_type") not in MODELS:
        return None
    found = {}
    for number, token in tokenizer.get_added_tokens_decoder().items():
        if marked := MARK.fullmatch(token.content):
            found[next(code for code in marked.groups() if code)] = number
    return found


def language_pair(folder: Path) -> tuple[str, str] | None:
    """Source and target as a model of one pair names them: `en`, `deu`, or a family, `ROMANCE`."""
    config = _read(folder / "tokenizer_config.json")
    source, target = config.get("source_lang"), config.get("target_lang")
    return (source, target) if isinstance(source, str) and isinstance(target, str) else None


def _read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
