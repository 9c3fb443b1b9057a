"""Rows that share a worker set, and the values that the set takes from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_core.catalogue import StayLoaded
from tests.conductor_core.settings_texts import parsed

A = {"Category/Area": "Conversational Chat"}
B = {"Category/Area": "Translation"}


def test_a_set_is_named_by_its_first_row_and_has_the_largest_wishes() -> None:
    catalogue = parsed(
        {**A, "Workers": "1", "Context": "4k", "Idle Timeout": "1m", "Stay Loaded": "false"},
        {**B, "Workers": "3", "Context": "8k", "Idle Timeout": "10m", "Stay Loaded": "false"},
    )
    (shared,) = catalogue.sets
    assert (shared.name, shared.first) == ("conversational_chat", catalogue.rows[0])
    assert (shared.workers, shared.context, shared.idle_timeout_s) == (3, 8192, 600.0)
    assert catalogue.set_of("translation") is shared


@given(st.lists(st.sampled_from(["true", "yield", "false"]), min_size=1, max_size=3))
def test_a_set_is_resident_if_any_row_is_else_yields_if_any_does(words: list[str]) -> None:
    rows = [{"Category/Area": f"Category {index}", "Stay Loaded": word} for index, word in enumerate(words)]
    expected = next(word for word in ("true", "yield", "false") if word in words)
    assert parsed(*rows).sets[0].stay_loaded is StayLoaded(expected)


@pytest.mark.parametrize(
    "difference",
    [
        {"Precision": "BF16"},
        {"Technical Model Name": "other/model"},
        {"Technical Model Name": "`meta-llama/Llama-3.1-8B-Instruct@v1`"},
        {"Device": "cuda:1"},
    ],
)
def test_other_weights_or_another_device_are_another_set(difference: dict[str, str]) -> None:
    assert len(parsed(A, {**B, **difference}).sets) == 2


def test_a_file_shares_whether_its_precision_is_repeated_or_empty() -> None:
    model = {"Technical Model Name": "./tiny.Q4_1.gguf"}
    assert len(parsed({**A, **model, "Precision": ""}, {**B, **model, "Precision": "Q4_1"}).sets) == 1


@pytest.mark.parametrize(
    ("cells", "runtime"),
    [
        ({}, "transformers"),
        ({"Precision": "4-bit"}, "transformers"),
        ({"Precision": ""}, "transformers"),
        ({"Technical Model Name": "./tiny.Q4_1.gguf", "Precision": ""}, "openvino"),
        ({"Technical Model Name": "./tiny.Q4_1.gguf", "Precision": "BF16"}, "transformers"),
        ({"Technical Model Name": "./folder", "Precision": ""}, "transformers"),
        ({"Technical Model Name": "./folder", "Precision": "", "Runtime": "openvino"}, "openvino"),
    ],
)
def test_auto_is_the_runtime_that_serves_the_precision(cells: dict[str, str], runtime: str) -> None:
    assert parsed(cells).sets[0].runtime == runtime


def test_before_placement_every_set_is_on_the_cpu_unless_its_row_insists() -> None:
    catalogue = parsed(A, {**B, "Device": "cuda"})
    assert [worker_set.device for worker_set in catalogue.sets] == ["cpu", "cuda:0"]
