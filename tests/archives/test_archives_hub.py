"""Downloads from the hub: pinned to a commit, safe files only, usable offline afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from archives.build_context import BuildContext
from archives.child import run_job
from archives.errors import BuildError
from archives.fetch import fetch
from archives.identity import identify
from conductor_core.catalogue import ModelRef
from tests.archives.fake_hub import COMMIT, FakeHub, fake_hub
from tests.archives.samples import Recorder

pytestmark = pytest.mark.slow

GOOD = ModelRef("hub", "org/good")
REPOS = {
    "org/good": {
        "config.json": b'{"model_type": "llama"}',
        "tokenizer.json": b"{}",
        "model.safetensors": b"weights" * 1000,
        "pytorch_model.bin": b"pickle",
        "onnx/model.onnx": b"x",
    },
    "org/pickles": {"config.json": b"{}", "pytorch_model.bin": b"pickle"},
    "org/code": {
        "config.json": json.dumps({"auto_map": {"AutoModel": "modeling.Model"}}).encode(),
        "model.safetensors": b"weights",
    },
    "org/some-gguf": {"a.Q4_0.gguf": b"GGUF a", "a.Q8_0.gguf": b"GGUF b"},
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub(REPOS) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield hub


@pytest.fixture
def online(build_context: BuildContext) -> BuildContext:
    return replace(build_context, job=run_job, progress=Recorder())


def _fetch(ref: ModelRef, build_context: BuildContext) -> Path:
    return fetch(ref, identify(ref, build_context), build_context)


def test_a_branch_is_resolved_to_a_commit_and_safe_files_are_downloaded(
    hub: FakeHub, online: BuildContext
) -> None:
    assert identify(GOOD, online) == f"org/good@{COMMIT}:"
    folder = _fetch(GOOD, online)

    assert {path.name for path in folder.iterdir()} == {"config.json", "tokenizer.json", "model.safetensors"}
    assert folder.name == COMMIT
    assert isinstance(online.progress, Recorder)
    assert ("download", 7000, 7000) in [seen[:3] for seen in online.progress.seen]


def test_one_file_of_a_gguf_repository_is_downloaded(hub: FakeHub, online: BuildContext) -> None:
    path = _fetch(ModelRef("hub", "org/some-gguf", file="a.Q8_0.gguf"), online)

    assert path.read_bytes() == b"GGUF b"
    assert hub.served == ["a.Q8_0.gguf"]


def test_a_repository_of_pickles_is_refused_before_anything_is_downloaded(
    hub: FakeHub, online: BuildContext
) -> None:
    with pytest.raises(
        BuildError, match=r"org/pickles has its weights only as pickle files \(pytorch_model\.bin"
    ):
        _fetch(ModelRef("hub", "org/pickles"), online)

    assert hub.served == []


def test_auto_map_is_refused_before_the_weights_are_downloaded(hub: FakeHub, online: BuildContext) -> None:
    with pytest.raises(BuildError, match="org/code needs its own code"):
        _fetch(ModelRef("hub", "org/code"), online)

    assert hub.served == ["config.json"]


def test_an_unknown_repository_is_refused(hub: FakeHub, online: BuildContext) -> None:
    with pytest.raises(BuildError, match="the hub has no org/none"):
        identify(ModelRef("hub", "org/none"), online)


def test_an_unknown_file_is_refused(hub: FakeHub, online: BuildContext) -> None:
    with pytest.raises(BuildError, match=r"org/some-gguf has no b\.gguf"):
        _fetch(ModelRef("hub", "org/some-gguf", file="b.gguf"), online)


def test_what_was_downloaded_once_is_found_offline(
    hub: FakeHub, online: BuildContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = _fetch(GOOD, online)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    assert _fetch(GOOD, online) == folder
    (online.models / ".commits.json").unlink()
    refs = tmp_path / "cache" / "hub" / "models--org--good" / "refs"
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text(COMMIT)
    assert _fetch(GOOD, online) == folder


@pytest.mark.parametrize("offline", ["0", "1"])
def test_offline_without_the_model_is_one_line_with_the_cure(
    hub: FakeHub, online: BuildContext, monkeypatch: pytest.MonkeyPatch, offline: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)

    with pytest.raises(
        BuildError,
        match=r"org/good is not on this machine and .* cannot be reached; connect to the network, or",
    ):
        identify(GOOD, online)
    with pytest.raises(BuildError, match="org/good is not on this machine"):
        fetch(GOOD, f"org/good@{COMMIT}:", online)
