"""Runtime for encoder-decoder models (NLLB, M2M100, Marian) by batched `generate`.

The library has no continuous batching for these. A thread gathers the requests of a short time window into
one batch; later requests wait for its end. Each row has its own decoding, limit and cancel, as in the causal
runtime.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from handlers.runtimes.base import RuntimeConfig, RuntimeStats, SamplingPlan, Step
from handlers.runtimes.transformers.checks import (
    check_continuations,
    check_plan,
    check_prompt,
    runtime_failed,
)
from handlers.runtimes.transformers.decoding import RequestDecoding
from handlers.runtimes.transformers.flow import Flow, FlowProgress
from handlers.runtimes.transformers.load import load
from handlers.runtimes.transformers.schema import SchemaCompiler
from handlers.runtimes.transformers.score import padded, score_sequence_to_sequence
from handlers.wire import RequestError

WINDOW_SECONDS = 0.01
MAX_ROWS = 16
STOP_SECONDS = 30.0


@dataclass(slots=True)
class Seq2SeqJob:
    """One row of a batch. `tokens` begins with `prefix`; `limit` counts both."""

    prompt_ids: Sequence[int]
    prefix: tuple[int, ...]
    limit: int
    decoding: RequestDecoding
    flow: Flow
    loop: asyncio.AbstractEventLoop
    tokens: list[int] = field(default_factory=list)
    cancelled: bool = False
    finished: bool = False

    def report(self, error: str | None = None) -> None:
        """Passes the row's progress to its event loop; callable from any thread."""
        progress = FlowProgress(list(self.tokens), self.finished or error is not None, error)
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.flow.receive, progress)


class RowDecoding(LogitsProcessor):
    """Logits processor that gives each row of a batch to its own decoding, and forces a row's prefix."""

    def __init__(self, jobs: Sequence[Seq2SeqJob]) -> None:
        self._jobs = jobs

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Changes `scores`, float logits (rows, vocabulary), in place."""
        for job, row in zip(self._jobs, scores, strict=True):
            if len(job.tokens) < len(job.prefix):
                row.fill_(-torch.inf)[job.prefix[len(job.tokens)]] = 0.0
            elif not job.finished:
                job.decoding.advance(job.tokens[len(job.prefix) :])
                job.decoding.choose(row)
        return scores


class RowStops(StoppingCriteria):
    """Stopping criterion that reports each row's new token and ends rows that are done or cancelled."""

    def __init__(self, jobs: Sequence[Seq2SeqJob], eos_ids: Sequence[int]) -> None:
        self._jobs = jobs
        self._eos_ids = frozenset(eos_ids)

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """True for each row that gets no further token."""
        for job, token in zip(self._jobs, input_ids[:, -1].tolist(), strict=True):
            if not job.finished and not job.cancelled:
                job.tokens.append(token)
                job.finished = token in self._eos_ids or len(job.tokens) >= job.limit
                job.report()
        return torch.tensor([job.finished or job.cancelled for job in self._jobs], device=input_ids.device)


class Seq2SeqRuntime:
    """An encoder-decoder model. `context` bounds the source text and, separately, the answer."""

    def __init__(self, config: RuntimeConfig, on_fatal: Callable[[str], None]) -> None:
        self._loaded = load(config)
        self._model = self._loaded.model
        self._on_fatal = on_fatal
        self.vocabulary = self._loaded.vocabulary
        positions = self._loaded.max_positions
        self.context = min(config.context or positions, positions)
        self._schemas = SchemaCompiler(self._loaded.tokenizer_file, self.vocabulary, self._loaded.eos_ids)
        self._inbox: queue.Queue[Seq2SeqJob | None] = queue.Queue()
        self._running: list[Seq2SeqJob] = []
        self._model_lock = threading.Lock()
        self._fatal: str | None = None
        self._thread = threading.Thread(target=self._serve, name="transformers-seq2seq", daemon=True)
        self._thread.start()

    async def submit(
        self, request_id: str, prompt_ids: Sequence[int], plan: SamplingPlan
    ) -> AsyncGenerator[Step, None]:
        """Steps of new token ids; see `Runtime`."""
        check_prompt(prompt_ids, self.context, self.vocabulary)
        check_plan(plan, self.vocabulary)
        mask = await self._schemas.compile(plan.json_schema) if plan.json_schema is not None else None
        prefix = tuple(plan.prefix_ids) or self._forced_start()
        decoding = RequestDecoding([self._start_id, *prefix], plan, self.vocabulary, self._model.device, mask)
        job = Seq2SeqJob(
            prompt_ids=prompt_ids,
            prefix=prefix,
            limit=min(len(prefix) + plan.max_tokens, self.context - 1),
            decoding=decoding,
            flow=Flow(decoding, self._loaded.eos_ids, skip=len(prefix)),
            loop=asyncio.get_running_loop(),
        )
        self._inbox.put(job)
        if self._fatal is not None:
            raise runtime_failed(self._fatal)
        if not self._thread.is_alive():
            raise runtime_failed("its generation thread has stopped")
        try:
            async for step in job.flow.steps():
                yield step
        finally:
            job.cancelled = True

    async def score(
        self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Log-probabilities under the raw logits, between two batches."""
        check_prompt(prompt_ids, self.context, self.vocabulary)
        check_continuations(0, continuations, self.context, self.vocabulary)
        return await asyncio.to_thread(self._score, prompt_ids, continuations)

    async def read(self, prompt_ids: Sequence[int], top_logprobs: int) -> Step:
        """Not supported: the encoder reads the source text as a whole, so its tokens have no probability."""
        raise RequestError(
            "a sequence-to-sequence model has no log-probabilities of its prompt",
            code="unsupported_parameter",
            param="echo",
        )

    def stats(self) -> RuntimeStats:
        """Counts of rows in the current batch and of requests that wait for the next one."""
        return RuntimeStats(running=len(self._running), waiting=self._inbox.qsize())

    def close(self) -> None:
        """Ends the current batch at its next step, then the thread. May be called again."""
        for job in self._running:
            job.cancelled = True
        self._inbox.put(None)
        self._thread.join(STOP_SECONDS)

    @property
    def _start_id(self) -> int:
        settings = self._model.generation_config
        start = settings.decoder_start_token_id
        return int(start if start is not None else settings.bos_token_id)

    def _forced_start(self) -> tuple[int, ...]:
        forced = self._model.generation_config.forced_bos_token_id
        return () if forced is None else (int(forced),)

    def _score(self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[list[float]]:
        start_ids = [self._start_id, *self._forced_start()]
        with self._model_lock:
            return score_sequence_to_sequence(self._model, prompt_ids, start_ids, continuations)

    def _serve(self) -> None:
        jobs: list[Seq2SeqJob] = []
        try:
            while (jobs := self._gather()) != []:
                self._running = [job for job in jobs if not job.cancelled]
                if self._running:
                    self._generate(self._running)
                    # A cancelled row has no reader any more; a row that `close` ended still has one.
                    for job in self._running:
                        if not job.finished:
                            job.report(error="the model was closed")
                self._running = []
        except Exception as error:
            self._fatal = line = traceback.format_exception_only(error)[-1].strip()
            self._fail(line, jobs)
            loops = [job.loop for job in jobs if not job.loop.is_closed()]
            if loops:
                loops[0].call_soon_threadsafe(self._on_fatal, line)
            else:
                self._on_fatal(line)
        else:
            self._fail("the model was closed", [])

    def _gather(self) -> list[Seq2SeqJob]:
        """The next batch; empty at the end."""
        jobs: list[Seq2SeqJob] = []
        deadline: float | None = None
        while len(jobs) < MAX_ROWS:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                job = self._inbox.get(timeout=left)
            except queue.Empty:
                break
            if job is None:
                self._fail("the model was closed", jobs)
                return []
            jobs.append(job)
            deadline = deadline or time.monotonic() + WINDOW_SECONDS
        return jobs

    def _generate(self, jobs: Sequence[Seq2SeqJob]) -> None:
        device = self._model.device
        rows = [list(job.prompt_ids) for job in jobs]
        mask = padded([[1] * len(row) for row in rows], device)
        given = self._model.generation_config
        settings = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False,
            num_beams=1,
            max_new_tokens=max(job.limit for job in jobs),
            decoder_start_token_id=self._start_id,
            eos_token_id=list(self._loaded.eos_ids),
            pad_token_id=given.pad_token_id if given.pad_token_id is not None else self._loaded.eos_ids[0],
            bad_words_ids=given.bad_words_ids,
            suppress_tokens=given.suppress_tokens,
        )
        with self._model_lock, torch.inference_mode():
            self._model.generate(
                padded(rows, device),
                attention_mask=mask,
                generation_config=settings,
                logits_processor=LogitsProcessorList([RowDecoding(jobs)]),
                stopping_criteria=StoppingCriteriaList([RowStops(jobs, self._loaded.eos_ids)]),
            )

    def _fail(self, cause: str, jobs: Sequence[Seq2SeqJob]) -> None:
        waiting = list(jobs)
        while not self._inbox.empty():
            job = self._inbox.get_nowait()
            if job is not None:
                waiting.append(job)
        for job in waiting:
            job.report(error=cause)
