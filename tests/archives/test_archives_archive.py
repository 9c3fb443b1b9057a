"""Archives: members, determinism, and equality with those of the torch-model-archiver command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from archives.archive import (
    CONFIG,
    HANDLERS,
    MANIFEST,
    ArchiveSpec,
    handler_files,
    validate_archive,
    write_archive,
)
from archives.errors import BuildError
from archives.prepare import Prepared
from archives.weights_info import WeightsInfo
from archives.worker_archive import WorkerPlan, archive_spec, worker_config
from conductor_core.catalogue import ModelRef
from handlers.worker_config import WorkerConfig
from tests.archives.samples import make_row

INFO = WeightsInfo("llama", 1000, 600, "Q4_1", 128, layers=2, kv_heads=2, head_dim=4)


def make_spec(path: Path, name: str = "conversational_chat", **plan: object) -> ArchiveSpec:
    row = make_row(ModelRef("path", "./tiny.gguf"), parameters={"temperature": 0.5})
    values = {"runtime": "openvino", "device": "cpu", "workers": 2, "context": None, "system": "Be kind."}
    prepared = Prepared(path, "file:abc", INFO, made=False)
    return archive_spec(WorkerPlan(name, row, **{**values, **plan}), prepared)  # type: ignore[arg-type]


def test_equal_inputs_are_equal_bytes_whenever_they_are_built(tmp_path: Path) -> None:
    spec = make_spec(tmp_path / "weights")

    assert write_archive(spec, tmp_path / "one" / "a.mar")
    assert write_archive(spec, tmp_path / "two" / "a.mar")

    assert (tmp_path / "one" / "a.mar").read_bytes() == (tmp_path / "two" / "a.mar").read_bytes()


def test_an_archive_that_is_current_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "a.mar"
    write_archive(make_spec(tmp_path), target)
    before = target.stat()

    assert not write_archive(make_spec(tmp_path), target)
    assert target.stat().st_ino == before.st_ino
    assert write_archive(make_spec(tmp_path, system="Be brief."), target)


def test_a_damaged_archive_is_written_again(tmp_path: Path) -> None:
    target = tmp_path / "a.mar"
    write_archive(make_spec(tmp_path), target)
    whole = target.read_bytes()
    target.write_bytes(whole[:-100])

    assert write_archive(make_spec(tmp_path), target)
    assert target.read_bytes() == whole


def test_members_and_manifest_are_those_of_the_archiver_command(tmp_path: Path) -> None:
    ours = tmp_path / "conversational_chat.mar"
    write_archive(make_spec(tmp_path), ours)
    staging = tmp_path / "staging"
    with zipfile.ZipFile(ours) as archive:
        archive.extractall(staging)
    extra = tmp_path / "extra"
    extra.mkdir()
    (staging / "handlers").rename(extra / "handlers")
    command = [str(Path(sys.executable).with_name("torch-model-archiver")), "--model-name", ours.stem]
    with zipfile.ZipFile(ours) as archive:
        version = json.loads(archive.read(MANIFEST))["model"]["modelVersion"]
    command += ["--version", version, "--handler", str(staging / f"{ours.stem}_handler.py")]
    command += ["--config-file", str(staging / CONFIG), "--extra-files", str(extra)]
    (tmp_path / "theirs").mkdir()
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    subprocess.run([*command, "--export-path", str(tmp_path / "theirs")], check=True, env=environment)

    with zipfile.ZipFile(ours) as mine, zipfile.ZipFile(tmp_path / "theirs" / ours.name) as command_made:
        assert mine.namelist() == sorted(command_made.namelist())
        for name in set(mine.namelist()) - {MANIFEST}:
            assert mine.read(name) == command_made.read(name)
        manifest, their_manifest = (json.loads(zip_.read(MANIFEST)) for zip_ in (mine, command_made))
    assert manifest | {"createdOn": ""} == their_manifest | {"createdOn": ""}


def test_the_configuration_is_what_a_worker_reads(tmp_path: Path) -> None:
    spec = make_spec(tmp_path / "weights", device="cuda:1", context=64)

    config = WorkerConfig.from_yaml(spec.config["conductor"])

    assert config.model_path == tmp_path / "weights"
    assert (config.context, config.workers, config.precision) == (64, 2, "Q4_1")
    assert (config.system, config.parameters) == ("Be kind.", {"temperature": 0.5})
    assert spec.config["minWorkers"] == spec.config["maxWorkers"] == 2
    assert (spec.config["deviceType"], spec.config["deviceIds"]) == ("gpu", [1])


def test_the_version_is_over_what_needs_a_new_worker(tmp_path: Path) -> None:
    version = make_spec(tmp_path).version

    assert len(version) == 12
    assert make_spec(tmp_path / "elsewhere", system=None).version == version
    assert make_spec(tmp_path, name="another_name").version == version
    for changes in ({"workers": 3}, {"device": "cuda:0"}, {"context": 64}):
        assert make_spec(tmp_path, **changes).version != version


def test_a_bundled_archive_carries_the_weights_and_a_relative_path(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.bin").write_bytes(os.urandom(2_000_000))
    (weights / "model.xml").write_text("<net/>")
    (weights / "pytorch_model.bin").write_text("pickle")
    (weights / "conductor.json").write_text("{}")
    target = tmp_path / "a.mar"
    spec = make_spec(weights, bundle=True)

    assert write_archive(spec, target)
    assert not write_archive(spec, target)

    validate_archive(target)
    with zipfile.ZipFile(target) as archive:
        assert "weights/pytorch_model.bin" not in archive.namelist()
        assert archive.read("weights/model.bin") == (weights / "model.bin").read_bytes()
    assert spec.config["conductor"]["model_path"] == "weights"


def test_handlers_are_packed_whole_and_without_caches() -> None:
    files = handler_files()

    sources = {f"handlers/{path.relative_to(HANDLERS).as_posix()}" for path in HANDLERS.rglob("*.py")}
    assert set(files) == sources


def test_a_name_that_torchserve_refuses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="not a valid TorchServe model name"):
        write_archive(make_spec(tmp_path, name="../x"), tmp_path / "a.mar")


def test_nothing_half_written_stays_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_archive(make_spec(tmp_path), tmp_path / "store" / "a.mar")

    assert list((tmp_path / "store").iterdir()) == []


def test_memory_is_estimated_for_all_workers(tmp_path: Path) -> None:
    row = make_row(ModelRef("path", "./tiny.gguf"))
    plan = WorkerPlan("a", row, "openvino", "cpu", 1, None, None)
    prepared = Prepared(tmp_path, "x", INFO, made=False)

    one = worker_config(plan, prepared).memory
    assert one is not None
    assert one > INFO.size
