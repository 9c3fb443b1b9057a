"""Facts of weights before a build come from local files, without a connection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from archives.build import build_set
from archives.build_context import BuildContext
from archives.known import known_weights
from archives.weights_info import KnownWeights
from conductor_core.catalogue import ModelRef, Precision, Row, WorkerSet
from conductor_core.placement import unplaced_sets
from tests.archives.samples import FakeJob, make_row, write_model_folder, write_safetensors


def the_set(row: Row) -> WorkerSet:
    (worker_set,) = unplaced_sets((row,))
    return worker_set


def test_headers_tell_of_what_was_never_built(
    tmp_path: Path, build_context: BuildContext, job: FakeJob
) -> None:
    folder = write_model_folder(tmp_path / "tiny")
    write_safetensors(folder / "model.safetensors", {"a": [1000, 1000]})
    row = make_row(ModelRef("path", str(folder)), precision=Precision.BF16, declared_memory=None)
    known = known_weights(the_set(row), build_context)
    assert known.identity.startswith("folder:")
    assert known.memory is not None
    wider = known_weights(the_set(replace(row, precision=Precision.FP32)), build_context)
    assert wider.memory is not None
    assert wider.memory - known.memory == 2 * 1000 * 1000
    assert not job.requests


def test_after_a_build_it_is_what_the_build_says(
    tmp_path: Path, build_context: BuildContext, gguf_row: Row, job: FakeJob
) -> None:
    worker_set = the_set(gguf_row)
    built = build_set(worker_set, tmp_path / "store", build_context)
    asked = len(job.requests)
    known = known_weights(worker_set, build_context)
    assert (known.identity, known.memory) == (built.identity, built.memory)
    assert known.contexts is not None
    assert known.contexts >= 1.5
    assert len(job.requests) == asked


def test_the_memory_that_a_table_gives_becomes_contexts(
    tmp_path: Path, build_context: BuildContext, gguf_row: Row, job: FakeJob
) -> None:
    build_set(the_set(gguf_row), tmp_path / "store", build_context)
    little, much = (
        known_weights(the_set(replace(gguf_row, declared_memory=memory)), build_context)
        for memory in (None, 10**12)
    )
    assert much.memory == 10**12
    assert little.contexts is not None
    assert much.contexts is not None
    assert much.contexts > 2 * little.contexts


def test_of_what_is_not_here_nothing_is_known_and_nobody_is_asked(
    tmp_path: Path, build_context: BuildContext, job: FakeJob
) -> None:
    for ref in (ModelRef("path", str(tmp_path / "gone.gguf")), ModelRef("hub", "org/model")):
        assert known_weights(the_set(make_row(ref)), build_context) == KnownWeights()
    assert not job.requests


def test_a_damaged_model_is_as_unknown_as_a_missing_one(tmp_path: Path, build_context: BuildContext) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    row = make_row(ModelRef("path", str(tmp_path / "broken.gguf")))
    assert known_weights(the_set(row), build_context) == KnownWeights()
