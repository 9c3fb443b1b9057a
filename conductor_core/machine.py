"""The machine's resources: memory that processes may use, and GPUs.

Reads /proc, cgroup files and `nvidia-smi`; imports no accelerator library.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_GPUS = "--query-gpu=index,uuid,name,mig.mode.current,memory.free,memory.total"
_PROCESSES = "--query-compute-apps=pid,used_memory"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as `cuda:<index>`; memory in bytes."""

    index: int
    name: str
    free: int
    total: int

    @property
    def device(self) -> str:
        return f"cuda:{self.index}"


@dataclass(frozen=True, slots=True)
class Machine:
    """Devices for models; `ram` is the smaller of MemTotal and the cgroup limit, in bytes."""

    gpus: tuple[Gpu, ...] = ()
    ram: int = 0


def probe() -> Machine:
    """This machine, without GPUs that the installed torch cannot use."""
    gpus = () if torch_is_cpu_only() else parse_nvidia_smi(_nvidia_smi(_GPUS), os.environ)
    return Machine(gpus, usable_memory())


def nvidia_gpus(environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """All GPUs that the driver shows, including those that the installed torch cannot use."""
    return parse_nvidia_smi(_nvidia_smi(_GPUS), environ)


def torch_is_cpu_only() -> bool:
    """True if the installed torch is a CPU build, judged by its version, or if there is no torch."""
    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return True


def _nvidia_smi(query: str) -> str:
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout


def parse_nvidia_smi(text: str, environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """GPUs of `nvidia-smi`'s table (MiB), numbered as CUDA_VISIBLE_DEVICES in `environ` shows them.

    A GPU without memory figures (`[N/A]`), or in MIG mode (where CUDA gives a slice but the figures are of
    the whole), is left out but keeps its number.
    """
    rows = [row for row in _fields(text) if len(row) == 6 and row[0].isdecimal()]
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    shown = rows if visible is None else _shown(rows, visible)
    return tuple(
        Gpu(index, name, int(free) * 2**20, int(whole) * 2**20)
        for index, (_, _, name, mig, free, whole) in enumerate(shown)
        if free.isdecimal() and whole.isdecimal() and mig != "Enabled"
    )


def _fields(text: str) -> list[list[str]]:
    return [[field.strip() for field in line.split(",")] for line in text.splitlines()]


def _shown(rows: list[list[str]], visible: str) -> list[list[str]]:
    """The rows that `visible` names by index or by the beginning of a UUID, in its order.

    CUDA stops reading the list at the first name that is not a device, such as -1.
    """
    found: list[list[str]] = []
    for name in (part.strip() for part in visible.split(",")):
        row = next((row for row in rows if name and (name == row[0] or row[1].startswith(name))), None)
        if row is None:
            break
        found.append(row)
    return found


def gpu_memory_by_pid() -> dict[int, int]:
    """Bytes of GPU memory by pid, for the processes that the driver shows."""
    return parse_compute_apps(_nvidia_smi(_PROCESSES))


def parse_compute_apps(text: str) -> dict[int, int]:
    """Bytes by pid of `nvidia-smi`'s processes (MiB), summed over devices and MIG slices.

    Processes without a memory figure (`[N/A]`, `[Insufficient Permissions]`) are left out.
    """
    rows = [row for row in _fields(text) if len(row) == 2 and row[0].isdecimal()]
    unknown = {row[0] for row in rows if not row[1].isdecimal()}
    held: dict[int, int] = {}
    for pid, size in (row for row in rows if row[0] not in unknown):
        held[int(pid)] = held.get(int(pid), 0) + int(size) * 2**20
    return held


def usable_memory(root: Path = Path("/")) -> int:
    """The smallest of MemTotal and the limits of all cgroups of this process, in bytes, read below `root`."""
    limits = [limit for _, limit in _limited_groups(root)]
    return min([_meminfo(root, "MemTotal"), *limits])


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that processes can still allocate, within this machine and all cgroups of this process."""
    return min([_meminfo(root, "MemAvailable"), *_cgroup_rooms(root)])


def _meminfo(root: Path, name: str) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{name} is missing from /proc/meminfo")


def _cgroup_rooms(root: Path) -> list[int]:
    """Free bytes below each limit; inactive file pages count as free, because the kernel drops them first."""
    rooms = []
    for folder, limit in _limited_groups(root):
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
        try:
            pairs = [line.split() for line in (folder / "memory.stat").read_text().splitlines()]
        except OSError:
            pairs = []
        found = {name: int(size) for name, size in pairs}
        inactive = found.get("total_inactive_file", found.get("inactive_file", 0))
        rooms.append(max(0, limit - used + inactive))
    return rooms


def _limited_groups(root: Path) -> list[tuple[Path, int]]:
    """The folders of this process's cgroups that have a memory limit, each with its limit in bytes."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    groups: list[tuple[Path, int]] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            groups += _limits_above(root / "sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers.split(","):
            groups += _limits_above(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
    return groups


def _limits_above(mount: Path, path: str, name: str) -> list[tuple[Path, int]]:
    folder = Path(os.path.normpath(mount / path.lstrip("/")))
    folders = [folder, *folder.parents] if folder.is_relative_to(mount) else [mount]
    # In a container the path names the host's hierarchy, which is not mounted here.
    limits = ((one, _number(one / name)) for one in folders if one.is_relative_to(mount))
    return [(one, limit) for one, limit in limits if limit is not None]


def _number(file: Path) -> int | None:
    """The number in `file`; None if the file is missing or has another content, such as max."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
