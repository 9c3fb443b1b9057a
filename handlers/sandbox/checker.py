"""Runs the text functions of engines in confined processes, where they can be stopped and do no harm.

Knows engines by name and their results as JSON. Functions of an engine that reads no text need no process.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import orjson
from pydantic import ValidationError

from handlers.engines.base import EnginePrompt
from handlers.engines.registry import engine_class
from handlers.off_loop import off_loop
from handlers.sandbox.fair_queue import Busy, QueueBounds
from handlers.sandbox.pool import Pool, Stopped
from handlers.sandbox.template import ChildLimits, TemplateFailed
from handlers.wire import GenerateRequest, RequestError

CPU_S = 2.0
MEMORY_BYTES = 512 * 2**20
PREPARE_FACTOR = 5
"""Factor on a check's processor time for preparing a request, without which there is no answer at all.

Preparing a hundred references takes two seconds.
"""

Findings = dict[str, Any]


class Checker:
    """Runs the checks of one gateway or worker in a few child processes, started at first use.

    `cpu_s` is the processor time of one check in seconds, `memory` the bytes that its process may allocate,
    `bounds` the numbers that may run and wait. For one event loop only.
    """

    def __init__(
        self, cpu_s: float = CPU_S, memory: int = MEMORY_BYTES, bounds: QueueBounds | None = None
    ) -> None:
        self._cpu_s = cpu_s
        self._pool = Pool(ChildLimits(cpu_s, memory), bounds or QueueBounds())

    async def findings(self, request: GenerateRequest, text: str) -> Findings:
        """Findings of the request's engine about `text`. Raises RequestError 400 for wrong options, or Busy.

        If the check failed or was stopped, they are the engine's findings without it.
        """
        kind = engine_class(request.engine)
        if not kind.reads_text:
            engine = kind()
            engine.accept(request)
            return engine.check(request, text)
        checked = await self._ask(request, {"do": "check", "text": text})
        if "failed" in checked:
            reason = checked["failed"]
            checked = await self._ask(request, {"do": "unchecked", "text": text, "reason": reason})
            return dict(checked["findings"]) if "findings" in checked else kind().unknown(reason)
        return dict(checked["findings"])

    async def conclude(self, request: GenerateRequest, text: str) -> Findings:
        """Findings about an answer; if the checker is busy, they say that the answer was not checked."""
        try:
            return await self.findings(request, text)
        except Busy as busy:
            return engine_class(request.engine)().unknown(f"the answer was not checked: {busy.message}")

    async def prepared(
        self, request: GenerateRequest, do: Literal["prepare", "converse"] = "prepare"
    ) -> EnginePrompt:
        """The engine's prompt for the request; Busy, or RequestError 400 if it is wrong or too long."""
        kind = engine_class(request.engine)
        if not kind.reads_text:
            return kind().prepare(request) if do == "prepare" else kind().converse(request)
        checked = await self._ask(request, {"do": do})
        if "failed" in checked:
            raise _unreadable(checked["failed"])
        try:
            return await off_loop(request.size, EnginePrompt.from_json, checked["prepared"])
        except ValidationError as error:
            raise _unreadable("the prompt is too long") from error

    def check(self, request: GenerateRequest, text: str) -> Findings:
        """As `findings`, for callers without an event loop."""
        return asyncio.run(self.findings(request, text))

    def __del__(self) -> None:
        # A checker that lives as long as its process is never closed explicitly.
        self.close()

    def close(self) -> None:
        """Ends all processes; the next check would start them again."""
        self._pool.close()

    async def _ask(self, request: GenerateRequest, question: dict[str, Any]) -> dict[str, Any]:
        cpu_s = self._cpu_s if "text" in question else self._cpu_s * PREPARE_FACTOR
        line = await off_loop(
            request.size + len(question.get("text", "")), _line, request, {**question, "cpu_s": cpu_s}
        )
        try:
            reply = await self._pool.ask(request.client or "", request.engine, line, cpu_s)
            answer = await off_loop(len(reply), orjson.loads, reply)
        except (Stopped, TemplateFailed) as failure:
            return {"failed": str(failure)}
        if "refused" in answer:
            refused = answer["refused"]
            raise RequestError(
                refused["message"], type=refused["type"], code=refused["code"], param=refused["param"]
            )
        return dict(answer)


def _line(request: GenerateRequest, question: dict[str, Any]) -> bytes:
    return orjson.dumps({**question, "request": request.model_dump(mode="json")}) + b"\n"


def _unreadable(reason: str) -> RequestError:
    return RequestError(
        f"the engine could not read this request: {reason}", code="unreadable_request", param="options"
    )
