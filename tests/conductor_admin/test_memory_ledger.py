"""Declared, estimated, measured and learned memory: their precedence, and storage across restarts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conductor_admin.memory.accounting import (
    MemoryFigures,
    charge,
    corrected_cell,
    has_outgrown,
    pending,
    room,
)
from conductor_admin.memory.history import SETTLED, MemoryHistory
from conductor_core.catalogue import WorkerSet
from conductor_core.settings.parser import parse_settings

GB = 1_000_000_000
TABLE = """
|Category/Area|Best Open Source Model|VRAM/RAM Requirements|Technical Model Name|Stay Loaded|Precision|
|-|-|-|-|-|-|
| Chat | Small 1B | ~2GB | `models/small.gguf` | false | Q4_1 |
"""


@pytest.fixture
def worker_set() -> WorkerSet:
    return parse_settings(TABLE).sets[0]


def figures(worker_set: WorkerSet, estimated: int | None = None, **learned: int) -> MemoryFigures:
    return MemoryFigures.of(worker_set, estimated, {}, learned)


def test_before_it_was_measured_the_larger_guess_is_admitted(worker_set: WorkerSet) -> None:
    assert figures(worker_set, 3 * GB).admission == {"cpu": 3 * GB}
    assert figures(worker_set, GB).admission == {"cpu": 2 * GB}


def test_once_measured_in_use_the_learned_peak_is_admitted_even_if_it_is_smaller(
    worker_set: WorkerSet,
) -> None:
    assert replace(figures(worker_set, 3 * GB, cpu=GB), settled=True).admission == {"cpu": GB}


def test_a_young_peak_admits_no_less_than_the_guesses(worker_set: WorkerSet) -> None:
    assert figures(worker_set, 3 * GB, cpu=GB).admission == {"cpu": 3 * GB}
    assert figures(worker_set, 3 * GB, cpu=4 * GB).admission == {"cpu": 4 * GB}


def test_declared_memory_is_of_one_worker(worker_set: WorkerSet) -> None:
    assert figures(replace(worker_set, workers=3), GB).admission == {"cpu": 6 * GB}


def test_a_gpu_set_that_was_never_measured_is_given_host_memory_too(worker_set: WorkerSet) -> None:
    admission = figures(replace(worker_set, device="cuda:0"), GB).admission
    assert admission["cuda:0"] == 2 * GB
    assert admission["cpu"] > 0


def test_a_set_that_holds_a_tenth_more_than_admitted_has_outgrown_it() -> None:
    assert not has_outgrown({"cpu": 20}, {"cpu": 21})
    assert has_outgrown({"cpu": 20}, {"cpu": 23})
    assert has_outgrown({"cuda:0": 20}, {"cpu": 1, "cuda:0": 20})


def test_a_loaded_set_is_charged_the_larger_of_given_and_held() -> None:
    assert charge({"cpu": 5, "cuda:0": 7}, {"cpu": 6, "cuda:0": 1}) == {"cpu": 6, "cuda:0": 7}


def test_room_is_bounded_by_what_is_really_free_less_pending_loads() -> None:
    awaited = pending({"cpu": 5}, {"cpu": 2})
    assert room({"cpu": 20}, {"cpu": 8}, {"cpu": 10}, awaited) == {"cpu": 7}
    assert room({"cpu": 20}, {"cpu": 8}, {}, awaited) == {"cpu": 12}
    assert room({"cpu": 20}, {"cpu": 30}, {"cpu": 10}, {}) == {"cpu": 0}


@pytest.mark.parametrize(
    ("declared", "peak", "cell"),
    [
        (8 * GB, 8 * GB, None),
        (8 * GB, int(9.2 * GB), None),
        (8 * GB, int(9.3 * GB), "~9.3GB (FP16)"),
        (8 * GB, int(6.7 * GB), "~6.7GB (FP16)"),
        (None, 8 * GB, None),
        (8 * GB, 0, None),
    ],
)
def test_a_cell_that_missed_by_more_than_15_percent_is_corrected(
    declared: int | None, peak: int, cell: str | None
) -> None:
    assert corrected_cell(declared, peak, "FP16") == cell


def history(folder: Path, version: str = "1.0") -> MemoryHistory:
    return MemoryHistory(folder / "peaks.json", lambda runtime: version)


def test_a_learned_peak_survives_a_restart(tmp_path: Path, worker_set: WorkerSet) -> None:
    before = history(tmp_path)
    before.learn(worker_set, "abc", {"cpu": 5})
    before.learn(worker_set, "abc", {"cpu": 3})
    assert history(tmp_path).of(worker_set, "abc") == {"cpu": 5}


def test_a_peak_settles_by_measurements_in_use_and_stays_so(tmp_path: Path, worker_set: WorkerSet) -> None:
    before = history(tmp_path)
    for _ in range(SETTLED):
        before.learn(worker_set, "abc", {"cpu": 5})
    assert not before.is_settled(worker_set, "abc")
    for _ in range(SETTLED):
        assert not before.is_settled(worker_set, "abc")
        before.learn(worker_set, "abc", {"cpu": 5}, in_use=True)
    assert history(tmp_path).is_settled(worker_set, "abc")
    assert not history(tmp_path).is_settled(worker_set, None)


def test_the_time_of_a_load_is_remembered_beside_the_peak(tmp_path: Path, worker_set: WorkerSet) -> None:
    before = history(tmp_path)
    assert before.load_s(worker_set, "abc") is None
    before.learn(worker_set, "abc", {"cpu": 5})
    before.loaded(worker_set, "abc", 3.25)
    again = history(tmp_path)
    assert (again.of(worker_set, "abc"), again.load_s(worker_set, "abc")) == ({"cpu": 5}, 3.25)
    assert again.load_s(worker_set, None) is None


def test_other_weights_context_workers_or_library_have_no_learned_peak(
    tmp_path: Path, worker_set: WorkerSet
) -> None:
    history(tmp_path).learn(worker_set, "abc", {"cpu": 5})
    again = history(tmp_path)
    assert not again.of(worker_set, "abd")
    assert not again.of(worker_set, None)
    assert not again.of(replace(worker_set, context=99), "abc")
    assert not again.of(replace(worker_set, workers=2), "abc")
    assert not history(tmp_path, "1.1").of(worker_set, "abc")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b'{"x": {"memory": {"cpu": "much"}, "load_s": "long"}}', b'{"x": 5}'],
)
def test_a_broken_file_of_peaks_is_an_empty_one(
    tmp_path: Path, worker_set: WorkerSet, content: bytes
) -> None:
    (tmp_path / "peaks.json").write_bytes(content)
    kept = history(tmp_path)
    kept.learn(worker_set, "abc", {"cpu": 5})
    assert history(tmp_path).of(worker_set, "abc") == {"cpu": 5}
