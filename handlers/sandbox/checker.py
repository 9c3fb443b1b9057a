"""Runs what engines do with text of strangers in processes where it can be stopped and can harm nothing.

Knows engines by name and their answers as JSON; what a check does is the engine's. An engine that reads no
text costs no process.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import orjson
from pydantic import ValidationError

from handlers.engines.base import Prepared
from handlers.engines.registry import engine_class
from handlers.off_loop import off_loop
from handlers.sandbox.fair_queue import Bounds, Busy
from handlers.sandbox.pool import Pool, Stopped
from handlers.sandbox.template import Limits, TemplateFailed
from handlers.wire import GenerateRequest, RequestError

CPU_S = 2.0
MEMORY_BYTES = 512 * 2**20
PREPARE_FACTOR = 5
"""Without its check an answer is one, without its prompt none; a hundred references take two seconds."""

Findings = dict[str, Any]


class Checker:
    """The checks of one gateway or worker, which run in few children, started at first use.

    `cpu_s` is the processor time of one check, `memory` the bytes its process may allocate, `bounds` how many
    run and wait. Used on one event loop.
    """

    def __init__(
        self, cpu_s: float = CPU_S, memory: int = MEMORY_BYTES, bounds: Bounds | None = None
    ) -> None:
        self._cpu_s = cpu_s
        self._pool = Pool(Limits(cpu_s, memory), bounds or Bounds())

    async def findings(self, request: GenerateRequest, text: str) -> Findings:
        """Findings of the request's engine about `text`; RequestError 400 for wrong options, Busy.

        Where the check had to be stopped, or failed, the engine says what it can without it.
        """
        kind = engine_class(request.engine)
        if not kind.reads_text:
            engine = kind()
            engine.accept(request)
            return engine.check(request, text)
        told = await self._ask(request, {"do": "check", "text": text})
        if "failed" in told:
            reason = told["failed"]
            told = await self._ask(request, {"do": "unchecked", "text": text, "reason": reason})
            return dict(told["findings"]) if "findings" in told else kind().unknown(reason)
        return dict(told["findings"])

    async def conclude(self, request: GenerateRequest, text: str) -> Findings:
        """`findings` about an answer; where there was no place for a check they say so."""
        try:
            return await self.findings(request, text)
        except Busy as busy:
            return engine_class(request.engine)().unknown(f"the answer was not checked: {busy.message}")

    async def prepared(
        self, request: GenerateRequest, do: Literal["prepare", "converse"] = "prepare"
    ) -> Prepared:
        """What the engine makes of the request; Busy, and RequestError 400 where it is wrong or too long."""
        kind = engine_class(request.engine)
        if not kind.reads_text:
            return kind().prepare(request) if do == "prepare" else kind().converse(request)
        told = await self._ask(request, {"do": do})
        if "failed" in told:
            raise _unreadable(told["failed"])
        try:
            return await off_loop(request.size, Prepared.from_json, told["prepared"])
        except ValidationError as error:
            raise _unreadable("it is too long") from error

    def check(self, request: GenerateRequest, text: str) -> Findings:
        """`findings` where no event loop runs."""
        return asyncio.run(self.findings(request, text))

    def __del__(self) -> None:
        # One that lives as long as its process is closed by nobody.
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
            said = await self._pool.ask(request.client or "", request.engine, line, cpu_s)
            answer = await off_loop(len(said), orjson.loads, said)
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
