"""The real demo model with real downloads and conversions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archives.build import build_set
from archives.build_context import BuildContext
from archives.child import run_job
from archives.convert_job import work
from archives.errors import BuildError
from archives.prepare import Prepared, prepare
from conductor_core.catalogue import ModelRef, Precision
from conductor_core.paths import ProjectPaths
from conductor_core.placement import unplaced_sets
from conductor_core.runtimes import RUNTIMES, Form
from handlers.runtimes.base import RuntimeConfig
from tests.archives.samples import DEMO, DEMO_FILE, Recorder, make_row, write_model_folder

pytestmark = pytest.mark.e2e

FILES = {"tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json", "conductor.json"}


@pytest.fixture(scope="module")
def openvino(demo_project: ProjectPaths) -> Prepared:
    progress = Recorder()
    prepared = prepare(
        make_row(DEMO, file_precision="Q4_1"), "openvino", BuildContext(demo_project, progress)
    )
    phases = {phase for phase, *_ in progress.seen}
    assert phases == {"download", "convert"}
    return prepared


@pytest.fixture(scope="module")
def bf16(demo_project: ProjectPaths, openvino: Prepared) -> Prepared:
    return prepare(make_row(DEMO, precision=Precision.INT4), "transformers", BuildContext(demo_project))


def test_the_openvino_folder_is_complete(openvino: Prepared) -> None:
    names = {path.name for path in openvino.path.iterdir()}

    parts = {
        f"openvino_{part}.{kind}" for part in ("model", "tokenizer", "detokenizer") for kind in ("xml", "bin")
    }
    assert names == FILES | parts
    assert openvino.info.context == 8192
    assert openvino.info.quantisation == "Q4_1"
    assert 134_000_000 < openvino.info.parameters < 136_000_000


def test_a_gguf_that_a_runtime_loads_as_it_is_stays_beside_its_tokenizer(
    demo_project: ProjectPaths, openvino: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(RUNTIMES["openvino"], name="reads_gguf", forms=frozenset({Form.GGUF}))
    monkeypatch.setitem(RUNTIMES, spec.name, spec)

    def here(module: str, request: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        # A child would not know the entry.
        assert module == "archives.convert_job"
        return work(dict(request), lambda *_: None)

    context = BuildContext(demo_project, job=here)
    row = make_row(DEMO, file_precision="Q4_1")
    made = prepare(row, spec.name, context)
    assert {path.name for path in made.path.iterdir()} == FILES | {"model.gguf"}
    file = made.path / "model.gguf"
    assert file.resolve() == (openvino.path.parent / "source" / Path(DEMO_FILE).name).resolve()
    assert made.info == openvino.info
    assert not prepare(row, spec.name, context).made
    file.unlink()
    file.symlink_to(demo_project.models / "moved.gguf")
    assert prepare(row, spec.name, context).made


def test_the_tokenizer_files_say_what_a_worker_needs(openvino: Prepared, bf16: Prepared) -> None:
    for folder in (openvino.path, bf16.path):
        tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
        config = json.loads((folder / "config.json").read_text())
        assert tokenizer["eos_token"] == "<|im_end|>"
        assert "<|im_start|>" in tokenizer["chat_template"]
        assert (config["model_type"], config["architectures"]) == ("llama", ["LlamaForCausalLM"])
        assert config["max_position_embeddings"] == 8192


def test_4_bit_rows_get_bf16_safetensors_and_no_pickles(bf16: Prepared) -> None:
    assert {path.name for path in bf16.path.iterdir()} == FILES | {"model.safetensors"}
    assert json.loads((bf16.path / "config.json").read_text())["dtype"] == "bfloat16"
    assert "quantization_config" not in json.loads((bf16.path / "config.json").read_text())


def test_a_folder_of_safetensors_is_served_where_it_lies(bf16: Prepared, build_context: BuildContext) -> None:
    row = make_row(ModelRef("path", str(bf16.path)), precision=Precision.FP32)

    prepared = prepare(row, "transformers", replace(build_context, job=run_job))

    assert prepared.path == bf16.path
    assert (prepared.info.quantisation, prepared.info.context) == ("BF16", 8192)


def test_a_folder_without_a_tokenizer_is_refused_in_one_line(
    build_context: BuildContext, tmp_path: Path
) -> None:
    folder = write_model_folder(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()

    with pytest.raises(BuildError, match=r"m does not have a .*tokenizer") as caught:
        prepare(make_row(ModelRef("path", "./m")), "transformers", replace(build_context, job=run_job))

    assert "\n" not in str(caught.value)


def test_an_unknown_architecture_is_refused_before_any_slow_work(
    build_context: BuildContext, tmp_path: Path
) -> None:
    write_model_folder(tmp_path / "m", model_type="squid")

    with pytest.raises(BuildError, match="transformers cannot generate text with the architecture 'squid'"):
        prepare(make_row(ModelRef("path", "./m")), "transformers", replace(build_context, job=run_job))


def test_the_gateways_archive_names_the_converted_weights(
    demo_project: ProjectPaths, openvino: Prepared, tmp_path: Path
) -> None:
    worker_set = unplaced_sets([make_row(DEMO, file_precision="Q4_1")])[0]

    built = build_set(worker_set, tmp_path, BuildContext(demo_project))

    assert built.model_path == openvino.path
    assert RuntimeConfig(built.model_path, "Q4_1").model_path.is_absolute()
    assert 400_000_000 < built.memory < 1_500_000_000
