"""The machine's resources are read from files and from output of a known form."""

from __future__ import annotations

from pathlib import Path

import pytest

from conductor_core.machine import (
    Machine,
    free_memory,
    parse_compute_apps,
    parse_nvidia_smi,
    probe,
    usable_memory,
)

# As `nvidia-smi --query-gpu=index,uuid,name,mig.mode.current,memory.free,memory.total` writes it.
SMI = """0, GPU-aaaa, NVIDIA H200, Disabled, 142000, 143771
1, GPU-bbbb, NVIDIA L4, [N/A], 20000, 23034
2, GPU-cccc, NVIDIA GB10, [N/A], [N/A], [N/A]
3, GPU-dddd, NVIDIA H100 80GB HBM3, Enabled, 81000, 81559
4, GPU-eeee, NVIDIA T4, [Not Supported], 15000, 15360
"""


def test_this_machine_has_memory() -> None:
    found = probe()
    assert isinstance(found, Machine)
    assert found.ram > 2**30


def test_gpus_are_read_in_bytes_and_those_without_figures_left_out() -> None:
    first, second, third = parse_nvidia_smi(SMI, {})
    assert (first.index, first.name, first.device) == (0, "NVIDIA H200", "cuda:0")
    assert (first.free, first.total) == (142000 * 2**20, 143771 * 2**20)
    assert (second.device, second.name) == ("cuda:1", "NVIDIA L4")
    assert (third.device, third.name) == ("cuda:4", "NVIDIA T4")  # CUDA counts the GPUs before it


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("1,0", ["NVIDIA L4", "NVIDIA H200"]),
        ("1", ["NVIDIA L4"]),
        ("GPU-bb", ["NVIDIA L4"]),
        ("", []),
        ("-1", []),
        ("0,-1,1", ["NVIDIA H200"]),
        ("0,GPU-zz,1", ["NVIDIA H200"]),
        ("MIG-ffff", []),
        ("4, 1", ["NVIDIA T4", "NVIDIA L4"]),
    ],
)
def test_gpus_are_numbered_as_cuda_shows_them(visible: str, names: list[str]) -> None:
    gpus = parse_nvidia_smi(SMI, {"CUDA_VISIBLE_DEVICES": visible})
    assert [gpu.name for gpu in gpus] == names
    assert [gpu.index for gpu in gpus] == list(range(len(names)))


def test_a_gpu_keeps_its_number_behind_one_that_is_left_out() -> None:
    assert [gpu.device for gpu in parse_nvidia_smi(SMI, {"CUDA_VISIBLE_DEVICES": "2,3,1"})] == ["cuda:2"]


def test_gpu_memory_of_a_process_is_summed_over_devices_and_unknown_where_it_is_not_said() -> None:
    # As `nvidia-smi --query-compute-apps=pid,used_memory` writes it.
    said = "101, 512\n102, [N/A]\n101, 1024\n103, 7\n103, [Insufficient Permissions]\n104, [Not Found]\n"
    assert parse_compute_apps(said) == {101: 1536 * 2**20}


@pytest.mark.parametrize("text", ["", "No running processes found\n", "[N/A], 5\n"])
def test_other_output_means_no_process(text: str) -> None:
    assert parse_compute_apps(text) == {}


@pytest.mark.parametrize("text", ["", "NVIDIA-SMI has failed\n", "a, b\n"])
def test_other_output_means_no_gpu(text: str) -> None:
    assert parse_nvidia_smi(text, {}) == ()


def system(root: Path, files: dict[str, str]) -> Path:
    """A root folder with `files`, and 8 GiB in /proc/meminfo."""
    for name, text in {"proc/meminfo": "MemFree: 1 kB\nMemTotal: 8388608 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "gib"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": f"{2 * 2**30}\n"}, 2),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 8),
        ({"proc/self/cgroup": "0::/host/only\n", "sys/fs/cgroup/memory.max": f"{3 * 2**30}"}, 3),
        ({"proc/self/cgroup": "0::/../outside\n", "sys/fs/cgroup/memory.max": f"{3 * 2**30}"}, 3),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{99 * 2**30}"}, 8),
        (
            {
                "proc/self/cgroup": "5:cpu:/\n4:memory:/docker/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * 2**30}\n",
            },
            4,
        ),
    ],
)
def test_memory_is_the_smaller_of_the_machine_and_every_cgroup_limit(
    tmp_path: Path, files: dict[str, str], gib: int
) -> None:
    assert usable_memory(system(tmp_path, files)) == gib * 2**30


@pytest.mark.parametrize(
    ("files", "gib"),
    [
        ({}, 5),
        (
            {
                "proc/self/cgroup": "0::/a\n",
                "sys/fs/cgroup/a/memory.max": f"{4 * 2**30}\n",
                "sys/fs/cgroup/a/memory.current": f"{3 * 2**30}\n",
                "sys/fs/cgroup/a/memory.stat": f"anon 5\ninactive_file {2 * 2**30}\n",
            },
            3,
        ),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 5),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * 2**30}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{4 * 2**30}\n",
                "sys/fs/cgroup/memory/memory.stat": f"inactive_file 0\ntotal_inactive_file {2**30}\n",
            },
            1,
        ),
    ],
)
def test_free_memory_is_the_smallest_room_of_the_machine_and_its_cgroups(
    tmp_path: Path, files: dict[str, str], gib: int
) -> None:
    meminfo = {"proc/meminfo": f"MemTotal: {8 * 2**20} kB\nMemAvailable: {5 * 2**20} kB\n"}
    assert free_memory(system(tmp_path, {**meminfo, **files})) == gib * 2**30
