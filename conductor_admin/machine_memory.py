"""How much memory is really free on this machine, and how much its GPUs give to which process.

Reading /proc is cheap and done at once; GPUs are asked by a child process, so their figures are of the last
`look`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Protocol

from conductor_core.machine import free_memory, gpu_memory_by_pid, probe


class MemoryOf(Protocol):
    """What the lifecycle asks of a machine; bytes by device."""

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
        """Bytes that can be taken now, on each device that has answered."""
        return {"cpu": free_memory(), **self._gpu_free}

    def on_gpu(self, pids: Collection[int]) -> int | None:
        """GPU memory of `pids`; None where the driver shows none of them, as inside a container."""
        held = [self._by_pid[pid] for pid in pids if pid in self._by_pid]
        return sum(held) if held else None

    async def look(self) -> None:
        """Ask the GPUs, if there are any."""
        if self._gpus:
            await asyncio.to_thread(self._ask)

    def _ask(self) -> None:
        self._gpu_free = {gpu.device: gpu.free for gpu in probe().gpus if gpu.device in self._gpus}
        self._by_pid = gpu_memory_by_pid()
