"""A source of records without a model: the prompt is a JSON list of steps, which run in order.

`["say", text]` a delta · `["wait", path]` until the signal · `["meet", n]` until n are at this step ·
`["forever"]` deltas without end · `["tell", path]` signals when the request ends early ·
`["refuse"]` RequestError 400 · `["break"]` a defect · `["fatal"]` the runtime fails while the request hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import orjson

from handlers.runtimes.base import RuntimeStats
from handlers.wire import GenerateRequest, RequestError
from handlers.worker.requests import Record
from tests.handlers.fake_runtime import ScriptedRuntime
from tests.signals import Signal


def script(*steps: list[Any]) -> str:
    """The prompt that makes a `ScriptedSource` take these steps."""
    return orjson.dumps(steps).decode()


class CountingRuntime(ScriptedRuntime):
    """Reports the number of requests that its source works on."""

    running = 0

    def stats(self) -> RuntimeStats:
        return RuntimeStats(running=self.running, waiting=0)


class ScriptedSource:
    """Runs the script in each request's prompt."""

    def __init__(self, on_fatal: Callable[[str], None]) -> None:
        self.runtime = CountingRuntime([])
        self.on_fatal = on_fatal
        self.requests: list[GenerateRequest] = []
        self._meetings: dict[int, asyncio.Barrier] = {}

    async def records(self, request: GenerateRequest) -> AsyncGenerator[Record, None]:
        self.requests.append(request)
        self.runtime.running += 1
        text: list[str] = []
        told: list[Path] = []
        try:
            for name, *values in orjson.loads(request.turns[-1].content):
                async for piece in self._step(name, values, told):
                    text.append(piece)
                    yield {"delta": piece}
            told.clear()
            usage = {"prompt_tokens": 1, "completion_tokens": len(text)}
            timings = {"first_token_s": None, "total_s": 0.0}
            done = {"finish_reason": "stop", "usage": usage, "timings": timings, "findings": {}}
            yield {"done": {**done, "text": "".join(text)}}
        finally:
            self.runtime.running -= 1
            for path in told:
                signal = Signal(path)
                signal.send()
                signal.close()

    async def _step(self, name: str, values: list[Any], told: list[Path]) -> AsyncGenerator[str, None]:
        match name:
            case "say":
                yield values[0]
            case "forever":
                while True:
                    await asyncio.sleep(0.01)
                    yield "more "
            case "tell":
                told.append(Path(values[0]))
            case "meet":
                await self._meetings.setdefault(values[0], asyncio.Barrier(values[0])).wait()
            case _:
                await self._other(name, values)

    async def _other(self, name: str, values: list[Any]) -> None:
        match name:
            case "wait":
                signal = Signal(Path(values[0]))
                try:
                    await signal.wait()
                finally:
                    signal.close()
            case "refuse":
                raise RequestError("refused as the script says", code="scripted", param="prompt")
            case "break":
                raise ZeroDivisionError("a defect as the script says")
            case "fatal":
                self.on_fatal("fatal as the script says")
                await asyncio.Event().wait()
