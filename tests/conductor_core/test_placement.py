"""Placement of sets on the devices of imaginary machines."""

from __future__ import annotations

import pytest

from conductor_core.catalogue import Catalogue
from conductor_core.issues import SettingsError
from conductor_core.machine import Gpu, Machine
from conductor_core.placement import place
from conductor_core.quantities import MemoryBudget
from conductor_core.sizes import needed_memory, parameters_of
from tests.conductor_core.settings_texts import parsed

GB = 1_000_000_000


def machine(*free: int, ram: int = 64) -> Machine:
    """A machine with `ram` GB and GPUs of `free` GB, all of it free."""
    return Machine(tuple(Gpu(i, f"GPU {i}", size * GB, size * GB) for i, size in enumerate(free)), ram * GB)


def model(category: str, size: str, memory: str = "-", **cells: str) -> dict[str, str]:
    """A row for an imaginary FP16 model of `size` parameters that does not stay loaded."""
    names = {"stay": "Stay Loaded", "device": "Device", "workers": "Workers", "precision": "Precision"}
    return {
        "Category/Area": category,
        "Technical Model Name": f"org/{category}-{size}",
        "Best Open Source Model": category,
        "VRAM/RAM Requirements": memory,
        "Stay Loaded": "false",
        **{names[name]: value for name, value in cells.items()},
    }


def devices(catalogue: Catalogue) -> list[str]:
    return [worker_set.device for worker_set in catalogue.sets]


def refusal(catalogue: Catalogue, where: Machine) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        place(catalogue, where)
    return str(caught.value).splitlines()


def test_auto_is_the_gpu_with_the_most_free_memory() -> None:
    assert devices(place(parsed(model("a", "7B")), machine(24, 48, 16))) == ["cuda:1"]


def test_auto_spreads_sets_over_equal_gpus() -> None:
    rows = [model(name, "7B") for name in "abc"]
    assert devices(place(parsed(*rows), machine(24, 24))) == ["cuda:0", "cuda:1", "cuda:0"]


def test_resident_sets_are_placed_first_and_keep_their_memory() -> None:
    catalogue = parsed(model("a", "7B"), model("b", "10B", stay="true"))
    found = refusal(catalogue, machine(24, ram=200))
    assert found == [
        "SETTINGS.md:3:1: Device: a: needs a GPU with 14 GB; free beside the resident rows: cuda:0 1.6 GB, "
        "and 7 B parameters are too slow on a CPU "
        "(auto uses the CPU up to 3 B; set Device to cpu to use it all the same)"
    ]


def test_sets_that_do_not_stay_loaded_take_turns_in_the_same_memory() -> None:
    rows = [model(name, "7B") for name in "abcd"]
    assert devices(place(parsed(*rows), machine(24))) == ["cuda:0"] * 4


def test_a_small_model_goes_to_the_cpu_where_no_gpu_fits() -> None:
    assert devices(place(parsed(model("a", "3B")), machine(4))) == ["cpu"]
    assert devices(place(parsed(model("a", "3B")), machine())) == ["cpu"]


def test_a_large_model_without_a_gpu_is_an_error_unless_its_row_insists() -> None:
    (mistake,) = refusal(parsed(model("a", "8B")), machine())
    assert "needs a GPU with 16 GB, this machine has no usable GPU" in mistake
    assert devices(place(parsed(model("a", "8B", device="cpu")), machine())) == ["cpu"]


def test_a_model_larger_than_the_memory_is_an_error_on_the_cpu_too() -> None:
    (mistake,) = refusal(parsed(model("a", "8B", device="cpu")), machine(ram=16))
    assert "needs 16 GB of memory, 14.4 GB is available" in mistake


def test_every_row_that_fits_nowhere_is_reported_at_once() -> None:
    assert len(refusal(parsed(model("a", "8B"), model("b", "70B"), model("c", "1B")), machine())) == 2


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_an_error_not_a_fallback(device: str) -> None:
    where = machine(24) if device == "cuda:1" else machine()
    assert "needs a GPU with 2 GB" in refusal(parsed(model("a", "1B", device=device)), where)[0]


def test_a_named_gpu_is_used_while_it_is_large_enough_at_all() -> None:
    where = Machine((Gpu(0, "GPU", free=0, total=24 * GB),), 64 * GB)
    assert devices(place(parsed(model("a", "7B", device="cuda:0")), where)) == ["cuda:0"]


def test_a_gguf_at_its_own_quantisation_stays_on_the_cpu() -> None:
    row = {"Technical Model Name": "./tiny-8B.Q4_1.gguf", "Precision": ""}
    assert devices(place(parsed(row), machine(80))) == ["cpu"]


def test_rows_that_meet_on_one_device_share_one_set() -> None:
    first, second = (
        model("a", "7B"),
        {**model("b", "7B", device="cuda:0"), "Technical Model Name": "org/a-7B"},
    )
    catalogue = parsed(first, second)
    assert len(catalogue.sets) == 2
    (shared,) = place(catalogue, machine(24)).sets
    assert [row.slug for row in shared.rows] == ["a", "b"]


def test_workers_multiply_what_a_set_needs() -> None:
    assert "42 GB" in refusal(parsed(model("a", "7B", workers="3", device="cuda")), machine(24))[0]


def test_the_operator_s_budget_stands_before_the_size_of_the_device() -> None:
    catalogue, where = parsed(model("a", "3B")), machine(24, 24)
    assert devices(place(catalogue, where, MemoryBudget.parse("cuda:0=4GB"))) == ["cuda:1"]
    assert devices(place(catalogue, where, MemoryBudget.parse("cuda:0=4GB,cuda:1=4GB"))) == ["cpu"]
    with pytest.raises(SettingsError, match=r"needs 6 GB of memory, 4 GB is available"):
        place(catalogue, where, MemoryBudget.parse("4GB"))


def test_placing_changes_nothing_but_the_sets() -> None:
    catalogue = parsed(model("a", "1B"))
    placed = place(catalogue, machine(24))
    assert (placed.rows, placed.warnings) == (catalogue.rows, catalogue.warnings)
    assert catalogue.sets[0].device == "cpu"


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("org/Qwen2.5-Coder-1.5B", 1.5),
        ("org/SmolLM2-135M-Instruct", 0.135),
        ("org/Mixtral-8x7B-v0.1", 56),
        ("org/Qwen3-30B-A3B-Instruct-2507", 30),
        ("org/Qwen2.5-7B-Instruct-1M", 7),
        ("org/phi-4", None),
    ],
)
def test_the_parameter_count_is_told_by_the_name(name: str, billions: float | None) -> None:
    row = {"Technical Model Name": name, "Best Open Source Model": "M", "VRAM/RAM Requirements": "-"}
    found = parameters_of(parsed(row).rows[0])
    assert found == (None if billions is None else pytest.approx(billions * 1e9))


@pytest.mark.parametrize(
    ("precision", "billions"), [("FP32", 2.0), ("BF16", 4.0), ("8-bit", 8 / 1.1), ("", 4.0)]
)
def test_else_by_the_declared_memory_at_its_precision(precision: str, billions: float) -> None:
    row = {
        "Technical Model Name": "org/phi",
        "Best Open Source Model": "Phi",
        "VRAM/RAM Requirements": "8GB",
        "Precision": precision,
    }
    assert parameters_of(parsed(row).rows[0]) == pytest.approx(billions * 1e9)


def test_what_is_needed_is_the_larger_of_declared_and_weights() -> None:
    assert needed_memory(parsed(model("a", "7B", "8GB")).rows[0]) == 14 * GB
    assert needed_memory(parsed(model("a", "7B", "20GB")).rows[0]) == 20 * GB


def test_a_checkpoint_at_its_own_precision_needs_what_its_row_declares() -> None:
    assert needed_memory(parsed(model("a", "20B", "16GB", precision="")).rows[0]) == 16 * GB


def test_a_name_with_absurd_sizes_is_no_size() -> None:
    row = model("a", "9" * 60 + "B")
    assert needed_memory(parsed(row).rows[0]) == 0
