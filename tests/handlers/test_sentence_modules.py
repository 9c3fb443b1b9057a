"""Pooling settings of a model's folder are read, and unknown ones are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from handlers.runtimes.sentence_modules import SentenceModulesError, makes_embeddings, read_modules


def write(folder: Path, **files: Any) -> Path:
    """Writes JSON files by their names without the suffix; `pooling` is that of `1_Pooling`."""
    for name, content in files.items():
        path = folder / ("1_Pooling/config" if name == "pooling" else name)
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(content))
    return folder


def parts(*names: str) -> list[dict[str, str]]:
    return [
        {"type": f"sentence_transformers.models.{name}", "path": f"{n}_{name}"}
        for n, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, ("mean",)),
        ({"pooling_mode_cls_token": True}, ("cls",)),
        ({"pooling_mode_lasttoken": True}, ("last",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, ("max", "mean")),
        ({"pooling_mode": "lasttoken"}, ("last",)),
        ({"pooling_mode": ["cls", "mean"]}, ("cls", "mean")),
        ({}, ("mean",)),
    ],
)
def test_the_pooling_is_read_in_both_forms(
    tmp_path: Path, pooling: dict[str, Any], expected: tuple[str, ...]
) -> None:
    folder = write(tmp_path, modules=parts("Transformer", "Pooling", "Normalize"), pooling=pooling, config={})
    assert read_modules(folder).poolings == expected


def test_a_folder_that_says_nothing_takes_the_mean(tmp_path: Path) -> None:
    assert read_modules(write(tmp_path, config={})).poolings == ("mean",)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"modules": parts("Transformer", "Pooling", "Dense"), "pooling": {}}, "Dense"),
        ({"modules": [{"type": "own_code.MyPooling"}]}, "MyPooling"),
        ({"modules": [{}]}, r"\?"),
        (
            {
                "modules": parts("Transformer", "Pooling"),
                "pooling": {"pooling_mode_weightedmean_tokens": True},
            },
            "weighted",
        ),
        ({"modules": parts("Transformer", "Pooling"), "pooling": {"pooling_mode": "odd"}}, "odd"),
        ({"modules": [{"type": "x.Pooling", "path": "../../etc"}]}, "etc"),
    ],
)
def test_a_part_that_is_not_known_is_named(tmp_path: Path, files: dict[str, Any], named: str) -> None:
    with pytest.raises(SentenceModulesError, match=named):
        read_modules(write(tmp_path, **files))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"config": {"max_position_embeddings": 512}}, 512),
        ({"config": {"max_position_embeddings": 512}, "sentence_bert_config": {"max_seq_length": 256}}, 256),
        ({"config": {"max_position_embeddings": 512}, "tokenizer_config": {"model_max_length": 384}}, 384),
        ({"config": {"max_position_embeddings": 512}, "tokenizer_config": {"model_max_length": 10**30}}, 512),
        ({"config": {"max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": 1}}, 512),
        ({"config": {}, "sentence_bert_config": {"max_seq_length": None}}, None),
    ],
)
def test_the_longest_text_is_the_least_that_any_file_allows(
    tmp_path: Path, files: dict[str, Any], expected: int | None
) -> None:
    assert read_modules(write(tmp_path, **files)).max_tokens == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"config": {"architectures": ["BertModel"]}}, True),
        ({"config": {"architectures": ["MPNetForMaskedLM"]}}, True),
        ({"config": {"architectures": ["Qwen3ForCausalLM"]}, "modules": []}, True),
        ({"config": {"architectures": ["LlamaForCausalLM"]}}, False),
        ({"config": {"architectures": ["GPT2LMHeadModel"]}}, False),
        ({"config": {"architectures": ["MarianMTModel"]}}, False),
        ({"config": {}}, False),
    ],
)
def test_embedding_models_are_told_from_others(tmp_path: Path, files: dict[str, Any], expected: bool) -> None:
    assert makes_embeddings(write(tmp_path, **files)) is expected
