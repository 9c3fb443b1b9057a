"""Builds of embedding models: longest text, memory without a KV cache, and refusals by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archives.build_context import BuildContext
from archives.convert_job import work
from archives.errors import BuildError
from archives.identity import identify
from conductor_core.catalogue import ModelRef
from tests.handlers.tiny_models import tiny_bert


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_bert(tmp_path / "model", pooling_mode_mean_tokens=True)


def build(folder: Path, target: Path) -> dict[str, Any]:
    target.mkdir()
    request = {"source": str(folder), "target": str(target), "name": "tiny"}
    return work({**request, "form": "folder", "runtime": "transformers"}, lambda *_: None)


def test_the_context_is_the_longest_text_and_no_cache_is_counted(folder: Path, tmp_path: Path) -> None:
    answer = build(folder, tmp_path / "target")
    assert (answer["info"]["context"], answer["info"]["layers"]) == (24, 0)
    assert answer["path"] == str(folder)


def test_a_part_that_is_not_known_is_refused_at_build(folder: Path, tmp_path: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.Dense"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(BuildError, match="tiny cannot be served: its module Dense"):
        build(folder, tmp_path / "target")


def test_an_encoder_with_a_decoder_is_refused_at_build(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "t5"}))
    with pytest.raises(BuildError, match="cannot make embeddings with the architecture 't5'"):
        build(folder, tmp_path / "target")


def test_another_pooling_is_another_model(folder: Path, tmp_path: Path, build_context: BuildContext) -> None:
    ref = ModelRef("path", str(folder))
    before = identify(ref, build_context)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert identify(ref, build_context) != before


def test_a_folder_without_a_fast_tokenizer_keeps_its_pooling(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello"]
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    target = tmp_path / "target"
    assert build(folder, target)["path"] is None
    assert (target / "tokenizer.json").exists()
    assert json.loads((target / "1_Pooling" / "config.json").read_text()) == {
        "pooling_mode_mean_tokens": True
    }
