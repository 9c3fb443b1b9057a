"""Reading headers of weights, whole and broken."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from archives.errors import BuildError
from archives.headers import read_folder, read_gguf
from archives.supported import check_gguf
from archives.weights_info import Stamp, WeightsInfo, contexts_held, estimate_memory
from conductor_core.runtimes import RUNTIMES
from tests.archives.samples import write_model_folder


def _gguf(path: Path, architecture: str = "llama") -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(512)
    writer.add_embedding_length(8)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tensor("w", np.zeros((4, 8), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_tells_what_it_is(tmp_path: Path) -> None:
    info, types = read_gguf(_gguf(tmp_path / "m.gguf"))

    assert info == WeightsInfo("llama", 32, 64, "F16", 512, layers=2, kv_heads=2, head_dim=2)
    assert types == {"F16"}


@pytest.mark.parametrize("content", [b"", b"GGUF", b"nothing of the kind" * 100, b"GGUF" + b"\xff" * 64])
def test_garbage_is_no_gguf(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(content)

    with pytest.raises(BuildError, match=r"m\.gguf is not a complete GGUF file"):
        read_gguf(tmp_path / "m.gguf")


def test_a_gguf_cut_short_is_refused(tmp_path: Path) -> None:
    path = _gguf(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(BuildError, match="not a complete GGUF"):
        read_gguf(path)


def test_a_folder_tells_what_it_is(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "m", num_key_value_heads=1)

    info = read_folder(folder, "m")

    size = (folder / "model.safetensors").stat().st_size
    assert info == WeightsInfo("llama", 36, size, "BF16", 256, layers=2, kv_heads=1, head_dim=4)


def test_safetensors_cut_short_are_refused(tmp_path: Path) -> None:
    weights = write_model_folder(tmp_path / "m") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])

    with pytest.raises(BuildError, match="truncated"):
        read_folder(tmp_path / "m", "m")


def test_a_hostile_safetensors_length_is_refused(tmp_path: Path) -> None:
    weights = write_model_folder(tmp_path / "m") / "model.safetensors"
    weights.write_bytes(struct.pack("<Q", 2**60) + b"{}")

    with pytest.raises(BuildError, match="header is too long"):
        read_folder(tmp_path / "m", "m")


def test_a_folder_with_a_missing_part_is_refused(tmp_path: Path) -> None:
    index = write_model_folder(tmp_path / "m") / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}')

    with pytest.raises(BuildError, match=r"m is not complete: model-00002\.safetensors"):
        read_folder(tmp_path / "m", "m")


def test_a_config_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (write_model_folder(tmp_path / "m") / "config.json").write_text("{")

    with pytest.raises(BuildError, match=r"config\.json is not JSON"):
        read_folder(tmp_path / "m", "m")


def test_auto_map_in_a_local_folder_is_refused(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "m", auto_map={"AutoModel": "x.Y"})

    with pytest.raises(BuildError, match="auto_map"):
        read_folder(folder, "m")


def test_openvino_refuses_an_architecture_and_a_quantisation_with_the_way_out() -> None:
    spec = RUNTIMES["openvino"]
    llama = WeightsInfo("llama", 1, 1, "Q5_K_M", 1)

    with pytest.raises(BuildError, match=r"has Q5_K.*set Precision to BF16"):
        check_gguf(spec, llama, {"F32", "Q5_K"}, "m.gguf")
    with pytest.raises(BuildError, match=r"m\.gguf is gemma"):
        check_gguf(spec, WeightsInfo("gemma", 1, 1, "Q4_0", 1), {"Q4_0"}, "m.gguf")


def test_memory_grows_with_precision_context_and_workers() -> None:
    info = WeightsInfo("llama", 1_000_000_000, 600_000_000, "Q4_1", 4096, layers=16, kv_heads=8, head_dim=64)

    words = ["4-bit", "8-bit", "BF16", "FP32"]
    by_precision = [estimate_memory(info, "transformers", word) for word in words]

    assert by_precision == sorted(by_precision)
    assert estimate_memory(info, "openvino", "Q4_1", 8192) > estimate_memory(info, "openvino", "Q4_1", 4096)
    assert estimate_memory(info, "openvino", "Q4_1", None, 2) == 2 * estimate_memory(info, "openvino", "Q4_1")


def test_contexts_are_told_from_the_memory_that_weights_and_process_leave() -> None:
    info = WeightsInfo("llama", 1_000_000_000, 600_000_000, "Q4_1", 4096, layers=16, kv_heads=8, head_dim=64)
    least = estimate_memory(info, "openvino", "Q4_1")
    assert contexts_held(info, "openvino", "Q4_1", None, 1) == 1.5
    assert contexts_held(info, "openvino", "Q4_1", None, least) == pytest.approx(1.5, abs=1e-3)
    context_bytes = 2 * 16 * 8 * (64 + 8) * 4096
    more = contexts_held(info, "openvino", "Q4_1", None, int(least + 3 * context_bytes))
    assert more == pytest.approx(4.5, abs=1e-3)
    assert contexts_held(WeightsInfo("bert", 1, 1, "FP32", 512), "transformers", "FP32", None, 1) is None


def test_a_stamp_is_read_back_and_a_broken_one_is_none(tmp_path: Path) -> None:
    stamp = Stamp("x", WeightsInfo("llama", 1, 1, "Q4_1", 1), None, {"a": "1"}, {"f": "0"}, 5)
    stamp.write(tmp_path)
    assert Stamp.read(tmp_path) == stamp

    (tmp_path / "conductor.json").write_text('{"source": "x"}')
    assert Stamp.read(tmp_path) is None
