"""Weights are made once, completely or not at all, by one builder at a time."""

from __future__ import annotations

import multiprocessing
import threading
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from archives.build_context import BuildContext
from archives.errors import BuildCancelled, BuildError
from archives.identity import identify
from archives.prepare import prepare, weights_lock
from archives.progress import Silent
from archives.weights_info import Stamp
from conductor_core.catalogue import ModelRef, Precision, Row
from tests.archives.samples import FakeJob, Recorder, make_row


def test_weights_are_made_once(build_context: BuildContext, gguf_row: Row, job: FakeJob) -> None:
    first = prepare(gguf_row, "openvino", build_context)
    second = prepare(gguf_row, "openvino", build_context)

    assert first.made
    assert second == replace(first, made=False)
    assert len(job.requests) == 1


def test_the_folder_is_named_by_model_identity_and_form(build_context: BuildContext, gguf_row: Row) -> None:
    path = prepare(gguf_row, "openvino", build_context).path

    assert path.name == "openvino"
    assert path.parent.name.startswith("tiny-")
    assert len(path.parent.name) == len("tiny-") + 8
    stamp = Stamp.read(path)
    assert stamp is not None
    assert set(stamp.files) == {"tokenizer.json"}


@pytest.mark.parametrize(
    ("precision", "variant", "dtype"),
    [
        (Precision.FP32, "fp32", "float32"),
        (Precision.FP16, "fp16", "float16"),
        (Precision.BF16, "bf16", "bfloat16"),
        (Precision.INT8, "bf16", "bfloat16"),
        (Precision.INT4, "bf16", "bfloat16"),
    ],
)
def test_a_precision_says_which_form_is_made(
    build_context: BuildContext, gguf_row: Row, job: FakeJob, precision: Precision, variant: str, dtype: str
) -> None:
    prepared = prepare(replace(gguf_row, precision=precision), "transformers", build_context)

    assert prepared.path.name == variant
    assert job.requests[0]["form"] == "safetensors"
    assert job.requests[0]["dtype"] == dtype


def test_8_bit_and_4_bit_rows_share_one_folder(
    build_context: BuildContext, gguf_row: Row, job: FakeJob
) -> None:
    for precision in (Precision.INT8, Precision.INT4, Precision.BF16):
        prepare(replace(gguf_row, precision=precision), "transformers", build_context)

    assert len(job.requests) == 1


def test_a_conversion_that_fails_leaves_nothing(build_context: BuildContext, gguf_row: Row) -> None:
    def failing(module: str, request: dict[str, Any], **_: Any) -> dict[str, Any]:
        (Path(request["target"]) / "half").write_text("x")
        raise BuildError("disk full", "make room")

    with pytest.raises(BuildError, match="disk full"):
        prepare(gguf_row, "openvino", replace(build_context, job=failing))

    assert not [
        path for path in build_context.models.rglob("*") if path.name == "half" or path.name == "openvino"
    ]
    assert prepare(gguf_row, "openvino", build_context).made


def test_what_a_killed_build_left_is_removed(build_context: BuildContext, gguf_row: Row) -> None:
    folder = build_context.folder(gguf_row.ref, identify(gguf_row.ref, build_context))
    left = folder / ".openvino-killed"
    left.mkdir(parents=True)

    prepare(gguf_row, "openvino", build_context)

    assert [path.name for path in folder.iterdir()] == ["openvino"]


def test_a_folder_without_its_stamp_is_made_again(build_context: BuildContext, gguf_row: Row) -> None:
    path = prepare(gguf_row, "openvino", build_context).path
    (path / "conductor.json").write_text("{")

    assert prepare(gguf_row, "openvino", build_context).made
    assert Stamp.read(path) is not None


def test_a_precision_that_the_file_does_not_have_is_refused(
    build_context: BuildContext, gguf_row: Row
) -> None:
    with pytest.raises(BuildError, match=r"Precision Q8_0 is asked for, ./tiny\.gguf has Q4_1"):
        prepare(replace(gguf_row, file_precision="Q8_0"), "openvino", build_context)


def _hold(path: Path, held: Event, release: Event) -> None:
    with weights_lock(path, Silent(), threading.Event()):
        held.set()
        release.wait(60)


def test_a_second_process_waits_says_so_and_then_finds_the_work_done(
    build_context: BuildContext, gguf_row: Row, job: FakeJob
) -> None:
    path = prepare(gguf_row, "openvino", build_context).path
    (path / "conductor.json").rename(path / "kept.json")
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(build_context.lock(path.parent), held, release))
    holder.start()
    assert held.wait(60)

    class Finisher(Recorder):
        def update(self, phase: str, done: int, total: int | None, message: str) -> None:
            super().update(phase, done, total, message)
            (path / "kept.json").rename(path / "conductor.json")
            release.set()

    progress = Finisher()
    waited = prepare(gguf_row, "openvino", replace(build_context, progress=progress))
    holder.join(60)

    assert progress.seen == [("wait", 0, None, f"another build is making {path.parent.name}")]
    assert not waited.made
    assert len(job.requests) == 1


def test_a_wait_can_be_stopped(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with weights_lock(tmp_path / "a.lock", Silent(), threading.Event()):
        waiting = weights_lock(tmp_path / "a.lock", Silent(), stop)
        with pytest.raises(BuildCancelled):
            waiting.__enter__()


def test_rows_of_another_model_have_another_folder(
    build_context: BuildContext, gguf_row: Row, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tiny.gguf").write_bytes(b"GGUF other")

    one = prepare(gguf_row, "openvino", build_context)
    two = prepare(make_row(ModelRef("path", "./other/tiny.gguf")), "openvino", build_context)

    assert one.path != two.path
