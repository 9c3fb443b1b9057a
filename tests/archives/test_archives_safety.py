"""Files of a model that are taken, and models that are refused, by name."""

from __future__ import annotations

import pytest

from archives.errors import BuildError
from archives.safety import refuse_auto_map, wanted_files


def test_small_files_come_before_weights_and_other_formats_are_left() -> None:
    names = [
        "model.safetensors",
        "config.json",
        "pytorch_model.bin",
        "onnx/model.onnx",
        "README.md",
        "tokenizer.json",
    ]

    assert wanted_files(names, "a/b") == ["config.json", "tokenizer.json", "model.safetensors"]


def test_a_second_copy_of_the_weights_is_left() -> None:
    assert wanted_files(["consolidated.safetensors", "model.safetensors"], "a/b") == ["model.safetensors"]


def test_the_binary_beside_its_xml_is_openvino_and_no_pickle() -> None:
    names = ["openvino_model.xml", "openvino_model.bin", "training_args.bin", "config.json"]

    assert wanted_files(names, "a/b") == ["config.json", "openvino_model.xml", "openvino_model.bin"]


def test_a_gguf_is_taken_where_asked_for_and_only_without_other_weights() -> None:
    made = ["model.gguf", "tokenizer.json"]

    assert wanted_files(made, "a/b", gguf=True) == ["tokenizer.json", "model.gguf"]
    assert wanted_files([*made, "model.safetensors"], "a/b", gguf=True) == [
        "tokenizer.json",
        "model.safetensors",
    ]
    with pytest.raises(BuildError, match=r"has no \.safetensors"):
        wanted_files(made, "a/b")


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt", "model.pkl"])
def test_a_model_of_pickles_alone_is_refused_by_name(pickle: str) -> None:
    with pytest.raises(BuildError, match=f"a/b has its weights only as pickle files .*{pickle}"):
        wanted_files([pickle, "config.json"], "a/b")


def test_a_model_with_code_is_refused_by_name() -> None:
    with pytest.raises(BuildError, match=r"a/b contains code \(modeling_x\.py\)"):
        wanted_files(["modeling_x.py", "model.safetensors"], "a/b")


def test_a_folder_without_weights_is_refused() -> None:
    with pytest.raises(BuildError, match=r"has no \.safetensors"):
        wanted_files(["config.json"], "a/b")


def test_auto_map_is_refused_by_name() -> None:
    with pytest.raises(BuildError, match=r"auto_map in config\.json"):
        refuse_auto_map({"auto_map": {"AutoModel": "x.Y"}}, "config.json", "a/b")
