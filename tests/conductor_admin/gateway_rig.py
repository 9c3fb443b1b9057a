"""A gateway over the fake TorchServe, on a real socket, whose parts a test may hold back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass

import httpx2

from conductor_admin.gateway import Gateway
from conductor_admin.lifecycle.lifecycle import Lifecycle
from conductor_core.paths import StateDir
from tests.conductor_admin.fake_torchserve import FakeBuilder, FakeTorchServe

SETTINGS = """# LLM Server Settings
## Conversational Persona
You are kind.

### Pirate
You are a pirate.

|Category/Area|Best Open Source Model|VRAM/RAM Requirements|Technical Model Name|Stay Loaded|Precision|
|---|---|---|---|---|---|
| Conversational Chat | Small | ~1GB | `models/small.gguf` | true | Q4_1 |
| Legal Analysis | Small | ~1GB | `models/small.gguf` | false | Q4_1 |
| Translation | Other | ~1GB | `models/other.gguf` | false | Q4_1 |

## Engine Parameters
| Category | temperature | max_tokens |
|---|---|---|
| Translation | 0 | 77 |
"""


GB = 1_000_000_000
OWNER_TOKEN = "cdo_of-the-rig"


class FakeMemory:
    """A machine whose free memory a test may set; unknown by default."""

    def __init__(self) -> None:
        self.left: dict[str, int] = {}
        self.gpu: int | None = None

    def free(self) -> dict[str, int]:
        return dict(self.left)

    def on_gpu(self, pids: Collection[int]) -> int | None:
        return self.gpu

    async def look(self) -> None:
        """Do nothing."""


@dataclass
class Rig:
    """A gateway in parts, for tests that hold one of them back."""

    state: StateDir
    gateway: Gateway
    torchserve: FakeTorchServe
    builder: FakeBuilder
    memory: FakeMemory
    client: httpx2.AsyncClient
    url: str

    @property
    def lifecycle(self) -> Lifecycle:
        return self.gateway.lifecycle

    async def until(self, fact: Callable[[], bool]) -> None:
        """Wait until `fact` holds, five seconds at most."""
        async with asyncio.timeout(5):
            while not fact():
                await asyncio.sleep(0.01)


MakeRig = Callable[..., contextlib.AbstractAsyncContextManager[Rig]]
