"""Adapts openvino-genai's ContinuousBatchingPipeline: a task steps it, requests stream token ids out.

Knows openvino-genai alone; imports no torch and no transformers (2.6 to 5.2 s and 150 MB).

`step()` holds the interpreter's lock from its beginning to its end, so a thread of its own would gain nothing
and lose a step: the loop would get the lock only after the next one (14 ms at one stream, measured). The task
steps on the loop itself, and between two steps lets the loop work off all that is ready.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import openvino as ov
import openvino_genai as genai

from handlers.runtimes.base import RuntimeConfig, RuntimeStats, SamplingPlan, Step
from handlers.runtimes.openvino_config import (
    BLOCK_TOKENS,
    ModelShape,
    generation_config,
    properties,
    scheduler,
)
from handlers.runtimes.openvino_echo import Echo, LogProbabilities
from handlers.runtimes.openvino_schema import SchemaProbe
from handlers.runtimes.openvino_turns import quiet
from handlers.wire import RequestError

FINISH = {
    genai.GenerationFinishReason.STOP: "stop",
    genai.GenerationFinishReason.LENGTH: "length",
}


@dataclass(frozen=True, slots=True)
class _Failed:
    """Carries a request's failure through its queue."""

    error: RequestError


@dataclass(eq=False, slots=True)
class _Job:
    """One request between its coroutine and the stepping task."""

    prompt_ids: Sequence[int]
    config: Any
    eos: frozenset[int]
    out: asyncio.Queue[Step | _Failed] = field(default_factory=asyncio.Queue)
    handle: Any = None
    cancelled: bool = False

    def read(self) -> Step | _Failed | None:
        """What the last step made for this request; None if nothing."""
        if self.handle.get_status() == genai.GenerationStatus.IGNORED:
            return self._too_large()
        if not self.handle.can_read():
            return None
        (output,) = self.handle.read().values()
        reason = FINISH.get(output.finish_reason)
        ids = output.generated_ids
        log_probs = output.generated_log_probs
        if ids and reason == "stop" and ids[-1] in self.eos:
            ids, log_probs = ids[:-1], log_probs[:-1]
        return Step(ids, reason, log_probs)  # type: ignore[arg-type]

    def _too_large(self) -> _Failed:
        message = f"a prompt of {len(self.prompt_ids)} tokens does not fit into the KV cache of this model"
        return _Failed(RequestError(message, code="context_length_exceeded", param="prompt"))


class OpenVinoRuntime:
    """A model in OpenVINO form, served on a CPU by openvino-genai's own continuous batching."""

    name: ClassVar[str] = "openvino"
    refused: ClassVar[frozenset[str]] = frozenset({"logit_bias", "top_logprobs"})

    def __init__(self, config: RuntimeConfig, on_fatal: Callable[[str], None]) -> None:
        shape = ModelShape.read(config.model_path)
        self.context = min(config.context or shape.context, shape.context)
        self.vocabulary = shape.vocabulary
        self._eos = shape.eos
        self._schemas = SchemaProbe(config.model_path, shape.vocabulary)
        self._logprobs = LogProbabilities(config, shape, self.context, self._echo)
        self._pipeline = genai.ContinuousBatchingPipeline(
            str(config.model_path), scheduler(config, shape, self.context), "CPU", properties(config), {}
        )
        self._warm()
        self._on_fatal = on_fatal
        self._pending: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._work = asyncio.Event()
        self._stepping: asyncio.Task[None] | None = None
        self._ended: str | None = None
        self._next_id = 0
        self._scheduled = 0
        self._kv_usage = 0.0

    async def submit(
        self, request_id: str, prompt_ids: Sequence[int], plan: SamplingPlan
    ) -> AsyncGenerator[Step, None]:
        """Steps of `plan`'s decoding after `prompt_ids`; closing it cancels at the next step."""
        if plan.json_schema is not None:
            await self._schemas.check(plan.json_schema)
        steps = self._steps(prompt_ids, generation_config(plan, self._eos))
        async with aclosing(steps):
            async for step in steps:
                yield step

    async def score(
        self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """See `Runtime`; what the prefix cache hides is computed apart."""
        asked = ([*prompt_ids, *continuation] for continuation in continuations)
        lengths = map(len, continuations)
        return list(await asyncio.gather(*map(self._logprobs.of_last, asked, lengths)))

    async def read(self, prompt_ids: Sequence[int], top_logprobs: int) -> Step:
        """See `Runtime`; alternatives are refused before."""
        told = await self._logprobs.of_last(prompt_ids, len(prompt_ids) - 1)
        return Step(prompt_ids[1:], None, told)

    async def _echo(self, ids: Sequence[int], config: Any) -> Echo:
        tokens = 0
        told: list[float] = []
        async with aclosing(self._steps(ids, config)) as steps:
            async for step in steps:
                tokens += len(step.token_ids)
                told += step.logprobs or ()
        return tokens, told

    def stats(self) -> RuntimeStats:
        running = len(self._running)
        scheduled = min(running, self._scheduled) if running else 0
        waiting = running - scheduled + len(self._pending)
        return RuntimeStats(running=scheduled, waiting=waiting, kv_usage=self._kv_usage)

    def close(self) -> None:
        self._ended = "the model is being unloaded"
        if self._stepping is not None:
            self._stepping.cancel()
        self._schemas.close()

    def _warm(self) -> None:
        # The first step compiles kernels: a second that no client should wait for.
        config = generation_config(SamplingPlan(max_tokens=2), self._eos)
        self._pipeline.add_request(0, ov.Tensor(np.array([[0] * BLOCK_TOKENS], dtype=np.int64)), config)
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()

    async def _steps(self, prompt_ids: Sequence[int], config: Any) -> AsyncGenerator[Step, None]:
        job = self._enqueue(prompt_ids, config)
        try:
            while True:
                step = await job.out.get()
                if isinstance(step, _Failed):
                    raise step.error
                yield step
                if step.finish_reason is not None:
                    return
        finally:
            job.cancelled = True

    def _enqueue(self, prompt_ids: Sequence[int], config: Any) -> _Job:
        if self._ended is not None:
            raise _runtime_failed(self._ended)
        job = _Job(prompt_ids, config, self._eos)
        self._pending.append(job)
        self._work.set()
        if self._stepping is None:
            self._stepping = asyncio.create_task(self._run(), name="openvino-step")
        return job

    async def _run(self) -> None:
        try:
            while await self._work.wait():
                await quiet()
                self._admit()
                self._drop_cancelled()
                self._pipeline.step()
                self._deliver()
                self._measure()
                if not self._running and not self._pending:
                    self._work.clear()
        except Exception as error:  # the outermost loop: whatever a step raises ends the runtime
            self._fail_all(traceback.format_exception_only(error)[-1].strip())

    def _admit(self) -> None:
        while self._pending:
            job = self._pending.popleft()
            if job.cancelled:
                continue
            self._next_id += 1
            ids = ov.Tensor(np.array([job.prompt_ids], dtype=np.int64))
            try:
                job.handle = self._pipeline.add_request(self._next_id, ids, job.config)
            except (RuntimeError, ValueError) as error:
                refusal = RequestError(str(error).strip().splitlines()[-1], code="refused_by_runtime")
                job.out.put_nowait(_Failed(refusal))
            else:
                self._running.append(job)

    def _drop_cancelled(self) -> None:
        for job in self._running:
            if job.cancelled:
                job.handle.cancel()
        self._running = [job for job in self._running if not job.cancelled]

    def _deliver(self) -> None:
        ended = set()
        for job in self._running:
            step = job.read()
            if step is None:
                continue
            job.out.put_nowait(step)
            if isinstance(step, _Failed) or step.finish_reason is not None:
                ended.add(job)
        self._running = [job for job in self._running if job not in ended]

    def _measure(self) -> None:
        metrics = self._pipeline.get_metrics()
        self._scheduled = metrics.scheduled_requests
        self._kv_usage = metrics.cache_usage / 100

    def _fail_all(self, line: str) -> None:
        self._ended = line
        for job in (*self._running, *self._pending):
            job.out.put_nowait(_Failed(_runtime_failed(line)))
        self._running, self._pending = [], deque()
        self._on_fatal(line)


def _runtime_failed(line: str) -> RequestError:
    return RequestError(f"the runtime failed: {line}", status=500, type="server_error", code="runtime_failed")
