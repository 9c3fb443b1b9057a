"""Turns the library's cumulative outputs of one request into `Step`s of new tokens, on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from handlers.runtimes.base import Step
from handlers.runtimes.transformers.checks import runtime_failed
from handlers.runtimes.transformers.decoding import RequestDecoding
from handlers.wire import RequestError


@dataclass(frozen=True, slots=True)
class FlowProgress:
    """All tokens of a request so far, end token included.

    `error` is set if the library failed the request.
    """

    token_ids: Sequence[int]
    finished: bool
    error: str | None = None


class Flow:
    """Steps of one request.

    Keeps only the latest progress, so that a slow reader gets fewer, larger steps.
    """

    def __init__(self, decoding: RequestDecoding, eos_ids: Collection[int], skip: int = 0) -> None:
        self._decoding = decoding
        self._eos_ids = frozenset(eos_ids)
        self._sent = skip
        self._skip = skip
        self._latest: FlowProgress | None = None
        self._changed = asyncio.Event()

    @property
    def is_finished(self) -> bool:
        """True if the library has finished the request, so that there is nothing to cancel."""
        return self._latest is not None and self._latest.finished

    @property
    def tokens(self) -> int:
        """The number of tokens that the library has made."""
        return len(self._latest.token_ids) if self._latest is not None else 0

    def receive(self, progress: FlowProgress) -> None:
        """Takes the library's progress, on the event loop. Progress after the end is ignored."""
        if not self.is_finished:
            self._latest = progress
            self._changed.set()

    async def steps(self) -> AsyncGenerator[Step, None]:
        """Steps of new tokens without the end token, up to the finish reason.

        RequestError if the request failed.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            step = self._next()
            if step.token_ids or step.finish_reason:
                yield step
            if step.finish_reason:
                return

    def _next(self) -> Step:
        latest = self._latest
        assert latest is not None
        if latest.error is not None:
            raise runtime_failed(latest.error)
        mask = self._decoding.mask
        if latest.finished and mask is not None and mask.failure is not None:
            raise RequestError(
                f"json_schema could not be followed: {mask.failure.splitlines()[0][:300]}",
                param="json_schema",
                code="invalid_json_schema",
            )
        tokens = list(latest.token_ids)
        ended = bool(latest.finished and tokens and tokens[-1] in self._eos_ids)
        new = tokens[self._sent : len(tokens) - ended]
        start, self._sent = self._sent, max(self._sent, len(tokens) - ended)
        reason: Literal["stop", "length"] | None = None
        if latest.finished:
            reason = "stop" if ended else "length"
        if not self._decoding.plan.with_logprobs:
            return Step(new, reason)
        span = slice(start - self._skip, start - self._skip + len(new))
        return Step(new, reason, self._decoding.logprobs[span], self._decoding.top_logprobs[span])
