"""SETTINGS.md works on any machine, and each example on its GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from conductor_core.catalogue import Catalogue
from conductor_core.machine import Gpu, Machine
from conductor_core.placement import USABLE_SHARE, is_resident, place
from conductor_core.settings.parser import load_settings
from conductor_core.sizes import needed_memory
from conductor_core.weights import PINNED_WHEELS
from tests.source_tree import ROOT

EXAMPLES = {8: "gpu-8gb.md", 24: "gpu-24gb.md", 80: "gpu-80gb.md"}
GIB = 2**30


def example(size: int) -> Catalogue:
    return load_settings(ROOT / "examples" / EXAMPLES[size])


def test_the_project_s_own_settings_need_two_sets_and_no_gpu() -> None:
    catalogue = load_settings(ROOT / "SETTINGS.md")
    shared, embedding = place(catalogue, Machine((), 4 * GIB)).sets
    assert (embedding.name, embedding.runtime, embedding.device) == ("embedding", "transformers", "cpu")
    assert not is_resident(embedding.rows)
    assert (shared.name, shared.runtime, shared.device) == ("conversational_chat", "openvino", "cpu")
    assert is_resident(shared.rows)
    assert len(catalogue.rows) >= 15
    assert catalogue.persona


def test_the_project_s_own_model_is_in_a_pinned_wheel() -> None:
    for row in load_settings(ROOT / "SETTINGS.md").rows:
        assert (row.ref.source, row.ref.revision) in PINNED_WHEELS


def test_every_example_is_tested() -> None:
    assert sorted(path.name for path in Path(ROOT, "examples").glob("*.md")) == sorted(EXAMPLES.values())


@pytest.mark.parametrize("size", EXAMPLES)
def test_an_example_fits_on_its_gpu(size: int) -> None:
    gpu = Gpu(0, "GPU", size * GIB * 97 // 100, size * GIB)
    placed = place(example(size), Machine((gpu,), 32 * GIB))
    assert {worker_set.device for worker_set in placed.sets} == {"cuda:0"}


@pytest.mark.parametrize("size", EXAMPLES)
def test_an_example_leaves_room_for_its_largest_specialist_beside_the_resident_sets(size: int) -> None:
    needs = [(is_resident(one.rows), max(map(needed_memory, one.rows))) for one in example(size).sets]
    resident = sum(need for stays, need in needs if stays)
    largest = max(need for stays, need in needs if not stays)
    assert 0 < resident + largest <= size * GIB * USABLE_SHARE


@pytest.mark.parametrize("size", EXAMPLES)
def test_an_example_declares_more_than_its_weights(size: int) -> None:
    for row in example(size).rows:
        assert row.declared_memory == needed_memory(row)
        assert row.ref.kind == "hub"
