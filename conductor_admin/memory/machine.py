"""Free memory of this machine, and GPU memory by process.

/proc is cheap and read on each call; a child process asks the GPUs, so their figures are of the last `look`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol

from conductor_core.machine import free_memory, gpu_memory_by_pid, probe


class MemoryOf(Protocol):
    """Memory figures that the lifecycle needs of a machine; bytes by device."""

    def free(self) -> dict[str, int]: ...

    def on_gpu(self, pids: Collection[int]) -> int | None: ...

    async def look(self) -> None: ...


class MachineMemory:
    """This machine's memory; `gpus` are the devices (`cuda:0`) that models may be placed on."""

    def __init__(self, gpus: Iterable[str]) -> None:
        self._gpus = frozenset(gpus)
        self._gpu_free: dict[str, int] = {}
        self._by_pid: dict[int, int] = {}

    def free(self) -> dict[str, int]:
        """Free bytes on each device that has answered."""
        return {"cpu": free_memory(), **self._gpu_free}

    def on_gpu(self, pids: Collection[int]) -> int | None:
        """GPU memory of `pids`; None if the driver does not show all of them, as in a container."""
        return sum(self._by_pid[pid] for pid in pids) if self._by_pid.keys() >= set(pids) else None

    async def look(self) -> None:
        """Ask the GPUs, if there are any."""
        if self._gpus:
            await asyncio.to_thread(self._ask)

    def _ask(self) -> None:
        self._gpu_free = {gpu.device: gpu.free for gpu in probe().gpus if gpu.device in self._gpus}
        self._by_pid = gpu_memory_by_pid()


def kernel_oom_kills() -> int:
    """Number of processes that the kernel has killed for lack of memory; 0 if unknown."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    counts = dict(line.split(" ", 1) for line in lines)
    return int(counts.get("oom_kill", 0))
