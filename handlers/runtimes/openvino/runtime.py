"""Adapts openvino-genai's ContinuousBatchingPipeline: a task steps it, requests stream token ids out.

Knows openvino-genai only; imports no torch and no transformers (2.6 to 5.2 s and 150 MB).

`step()` holds the interpreter's lock from begin to end, so a separate thread would gain nothing and lose a
step: the loop would get the lock only after the next step (14 ms with one stream, measured). The task calls
it on the loop itself, and between two steps lets the loop finish everything that is ready.
"""

from __future__ import annotations

import asyncio
import itertools
import traceback
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import numpy as np
import openvino as ov
import openvino_genai as genai

from handlers.runtimes.base import Runtime, RuntimeConfig, RuntimeStats, SamplingPlan, Step
from handlers.runtimes.cache_places import Places
from handlers.runtimes.openvino.config import (
    BLOCK_TOKENS,
    ModelShape,
    cache_blocks,
    generation_config,
    properties,
    reserve_blocks,
    scheduler,
)
from handlers.runtimes.openvino.job import Failed, OpenVinoJob
from handlers.runtimes.openvino.logprobs import ECHO, Echo, LogProbabilities
from handlers.runtimes.openvino.reading import KnownPrefixes, pieces
from handlers.runtimes.openvino.schema import SchemaProbe
from handlers.runtimes.openvino.turns import quiet
from handlers.wire import RequestError

FINISH = {
    genai.GenerationFinishReason.STOP: "stop",
    genai.GenerationFinishReason.LENGTH: "length",
}


def open_runtime(config: RuntimeConfig, on_fatal: Callable[[str], None]) -> Runtime:
    """The runtime of the folder's model; see `OpenRuntime`."""
    return OpenVinoRuntime(config, on_fatal)


class OpenVinoRuntime:
    """A model in OpenVINO form, served on a CPU by openvino-genai's own continuous batching."""

    def __init__(self, config: RuntimeConfig, on_fatal: Callable[[str], None]) -> None:
        shape = ModelShape.read(config.model_path)
        self.context = min(config.context or shape.context, shape.context)
        self.vocabulary = shape.vocabulary
        self._eos = shape.eos
        self._piece = generation_config(SamplingPlan(max_tokens=1), shape.eos)
        self._schemas = SchemaProbe(config.model_path, shape.vocabulary)
        blocks = cache_blocks(config, shape, self.context)
        self._places = Places(blocks, reserve_blocks(self.context))
        self._prefixes = KnownPrefixes(blocks)
        self._logprobs = LogProbabilities(config, shape, blocks, self._echo)
        self._pipeline = genai.ContinuousBatchingPipeline(
            str(config.model_path), scheduler(blocks), "CPU", properties(config), {}
        )
        # The first step compiles kernels, which takes a second; no client should wait for it.
        two_tokens = generation_config(SamplingPlan(max_tokens=2), self._eos)
        self._pipeline.add_request(0, ov.Tensor(np.array([[0] * BLOCK_TOKENS], dtype=np.int64)), two_tokens)
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        self._on_fatal = on_fatal
        self._waiting: list[OpenVinoJob] = []
        self._held: list[OpenVinoJob] = []
        self._work = asyncio.Event()
        self._stepping: asyncio.Task[None] | None = None
        self._ended: str | None = None
        self._numbers = itertools.count(1)
        self._scheduled = 0
        self._kv_usage = 0.0

    async def submit(
        self, request_id: str, prompt_ids: Sequence[int], plan: SamplingPlan
    ) -> AsyncGenerator[Step, None]:
        """Steps of `plan`'s decoding after `prompt_ids`; closing it cancels at the next step."""
        if plan.json_schema is not None:
            await self._schemas.check(plan.json_schema)
        steps = self._steps(prompt_ids, plan)
        async with aclosing(steps):
            async for step in steps:
                yield step

    async def score(
        self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """See `Runtime`; log-probabilities that the prefix cache hides are computed by a second pipeline."""
        asked = ([*prompt_ids, *continuation] for continuation in continuations)
        lengths = map(len, continuations)
        return list(await asyncio.gather(*map(self._logprobs.of_last, asked, lengths)))

    async def read(self, prompt_ids: Sequence[int], top_logprobs: int) -> Step:
        """See `Runtime`; requests with `top_logprobs` were refused before."""
        logprobs = await self._logprobs.of_last(prompt_ids, len(prompt_ids) - 1)
        return Step(prompt_ids[1:], None, logprobs)

    async def _echo(self, ids: Sequence[int]) -> Echo:
        tokens = 0
        logprobs: list[float] = []
        async with aclosing(self._steps(ids, ECHO, echo=True)) as steps:
            async for step in steps:
                tokens += len(step.token_ids)
                logprobs += step.logprobs or ()
        return tokens, logprobs

    def stats(self) -> RuntimeStats:
        held = len(self._held)
        running = min(held, self._scheduled)
        waiting = held - running + len(self._waiting)
        return RuntimeStats(running=running, waiting=waiting, kv_usage=self._kv_usage)

    def close(self) -> None:
        self._ended = "the model is being unloaded"
        if self._stepping is not None:
            self._stepping.cancel()
        self._schemas.close()

    async def _steps(
        self, prompt_ids: Sequence[int], plan: SamplingPlan, *, echo: bool = False
    ) -> AsyncGenerator[Step, None]:
        if self._ended is not None:
            raise _runtime_failed(self._ended)
        job = OpenVinoJob(next(self._numbers), prompt_ids, plan, self._eos, echo)
        self._waiting.append(job)
        self._work.set()
        if self._stepping is None:
            self._stepping = asyncio.create_task(self._run(), name="openvino-step")
        try:
            while True:
                step = await job.out.get()
                if isinstance(step, Failed):
                    raise step.error
                yield step
                if step.finish_reason is not None:
                    return
        finally:
            job.cancelled = True

    async def _run(self) -> None:
        try:
            while await self._work.wait():
                await quiet()
                leaving = self._drop_cancelled() + self._put_back()
                for job in self._places.admit(self._waiting, self._held, leaving):
                    self._waiting.remove(job)
                    self._held.append(job)
                self._read()
                self._pipeline.step()
                self._deliver()
                metrics = self._pipeline.get_metrics()
                self._scheduled = metrics.scheduled_requests
                self._kv_usage = metrics.cache_usage / 100
                if not self._held and not self._waiting:
                    self._work.clear()
        except Exception as error:  # the outermost loop: any exception of a step ends the runtime
            self._ended = line = traceback.format_exception_only(error)[-1].strip()
            for job in (*self._held, *self._waiting):
                job.out.put_nowait(Failed(_runtime_failed(line)))
            self._held, self._waiting = [], []
            self._on_fatal(line)

    def _drop_cancelled(self) -> int:
        """Cancels requests without a reader.

        Returns the number of blocks that are free after the next step.
        """
        gone = [job for job in self._held if job.cancelled]
        for job in gone:
            if job.handle is not None:
                job.handle.cancel()
        self._held = [job for job in self._held if not job.cancelled]
        self._waiting = [job for job in self._waiting if not job.cancelled]
        return sum(job.blocks for job in gone)

    def _put_back(self) -> int:
        given_up = self._places.put_back(self._held, self._waiting)
        for job in given_up:
            if job.handle is not None:
                job.handle.cancel()
            job.begin_again()
            self._held.remove(job)
            self._waiting.append(job)
        return sum(job.blocks for job in given_up)

    def _read(self) -> None:
        reading = [job for job in self._held if job.handle is None]
        for job in reading:
            job.read = max(job.read, self._prefixes.known(job.ids))
        for job, tokens in pieces(reading, len(self._held) - len(reading)):
            job.is_piece = tokens < job.unread
            job.ending = job.read + tokens if job.is_piece else len(job.ids)
            config = self._piece if job.is_piece else job.config
            ids = ov.Tensor(np.array([job.ids[: job.ending]], dtype=np.int64))
            try:
                job.handle = self._pipeline.add_request(next(self._numbers), ids, config)
            except (RuntimeError, ValueError) as error:
                refusal = RequestError(str(error).strip().splitlines()[-1], code="refused_by_runtime")
                job.out.put_nowait(Failed(refusal))
                self._held.remove(job)

    def _deliver(self) -> None:
        for job in self._held[:]:
            if job.handle is None:
                continue
            step = self._outcome(job)
            if step is not None:
                job.out.put_nowait(step)
                if isinstance(step, Failed) or step.finish_reason is not None:
                    self._held.remove(job)

    def _outcome(self, job: OpenVinoJob) -> Step | Failed | None:
        """The result of the last step for this request; None if there is none."""
        if job.handle.get_status() == genai.GenerationStatus.IGNORED:
            job.begin_again()
            return None
        if not job.handle.can_read():
            return None
        (output,) = job.handle.read().values()
        if job.is_piece or not job.sent:
            self._prefixes.keep(job.ids[: job.ending])
        if job.is_piece:
            job.read, job.handle, job.is_piece = job.ending, None, False
            return None
        reason = FINISH.get(output.finish_reason)
        step = job.take(output.generated_ids, output.generated_log_probs, reason)
        if reason is not None:
            self._prefixes.keep([*job.prompt_ids, *job.sent])
        return step


def _runtime_failed(line: str) -> RequestError:
    return RequestError(f"the runtime failed: {line}", status=500, type="server_error", code="runtime_failed")
