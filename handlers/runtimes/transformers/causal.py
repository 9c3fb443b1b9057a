"""Runtime for causal Hugging Face models by transformers' continuous batching.

The library schedules, batches and pages the KV cache in a thread of its own; this adapter checks each
request, keeps it waiting until it fits into the cache (`cache_places`), attaches its decoding (`batch`),
passes its outputs to the event loop and notices when the thread dies. Nothing reaches the library unchecked
but request ids.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from handlers.runtimes.base import Runtime, RuntimeConfig, RuntimeStats, SamplingPlan, Step
from handlers.runtimes.sentence_modules import makes_embeddings
from handlers.runtimes.transformers.batch import PerRequestLogits, cache_usage, held_tokens, start_batching
from handlers.runtimes.transformers.checks import (
    check_continuations,
    check_plan,
    check_prompt,
    runtime_failed,
)
from handlers.runtimes.transformers.decoding import RequestDecoding
from handlers.runtimes.transformers.embedding import EmbeddingRuntime
from handlers.runtimes.transformers.flow import Flow, FlowProgress
from handlers.runtimes.transformers.load import is_sequence_to_sequence, load
from handlers.runtimes.transformers.memory import pages, places, plan_cache
from handlers.runtimes.transformers.schema import SchemaCompiler
from handlers.runtimes.transformers.score import read_causal, score_causal
from handlers.runtimes.transformers.seq2seq import Seq2SeqRuntime

STOP_SECONDS = 30.0
Found = TypeVar("Found")


@dataclass(eq=False, slots=True)
class Asked:
    """One request. `number` is the order of arrival, `key` its id in the library; `overtaken` counts later
    requests that were admitted before it.
    """

    number: int
    key: str
    prompt_ids: Sequence[int]
    decoding: RequestDecoding
    flow: Flow
    overtaken: int = 0

    @property
    def blocks(self) -> int:
        """The number of KV cache pages that it needs for its next token."""
        return pages(len(self.prompt_ids) + self.flow.tokens + 1)


def open_runtime(config: RuntimeConfig, on_fatal: Callable[[str], None]) -> Runtime:
    """The runtime for the folder's architecture. Raises the errors of `load`."""
    if makes_embeddings(config.model_path):
        return EmbeddingRuntime(config, on_fatal)
    if is_sequence_to_sequence(config.model_path):
        return Seq2SeqRuntime(config, on_fatal)
    return TransformersRuntime(config, on_fatal)


class TransformersRuntime:
    """A causal model with continuous batching; it supports all sampling parameters, seeds included.

    A seed fixes the random draws of its request; the last bits of logits still depend on the other requests
    of the batch, as in any batching server. `on_fatal` gets one line, once, on the event loop that served the
    last request (or on the watching thread if none was served), after the running requests failed.
    """

    def __init__(self, config: RuntimeConfig, on_fatal: Callable[[str], None]) -> None:
        self._loaded = load(config)
        self._device = self._loaded.model.device
        self._on_fatal = on_fatal
        self._waiting: list[Asked] = []
        self._held: list[Asked] = []
        self._numbers = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fatal: str | None = None
        free_gpu_bytes = torch.cuda.mem_get_info(self._device)[0] if self._device.type == "cuda" else None
        plan = plan_cache(config, self._loaded, free_gpu_bytes)
        self._logits = PerRequestLogits(on_orphan=self._cancel)
        self._manager = start_batching(self._loaded, plan, self._logits)
        self._batch = self._manager.batch_processor
        self.context = min(plan.context, held_tokens(self._manager))
        self._places = places(held_tokens(self._manager), self.context)
        self.vocabulary = self._loaded.vocabulary
        self._schemas = SchemaCompiler(self._loaded.tokenizer_file, self.vocabulary, self._loaded.eos_ids)
        thread = self._manager._generation_thread
        threading.Thread(target=self._watch, args=(thread,), name="transformers-watch", daemon=True).start()

    async def submit(
        self, request_id: str, prompt_ids: Sequence[int], plan: SamplingPlan
    ) -> AsyncGenerator[Step, None]:
        """Steps of new token ids; see `Runtime`."""
        check_prompt(prompt_ids, self.context, self.vocabulary)
        check_plan(plan, self.vocabulary)
        mask = await self._schemas.compile(plan.json_schema) if plan.json_schema is not None else None
        decoding = RequestDecoding(prompt_ids, plan, self.vocabulary, self._device, mask)
        flow = Flow(decoding, self._loaded.eos_ids)
        number = next(self._numbers)
        asked = Asked(number, f"{number}:{request_id}", prompt_ids, decoding, flow)
        try:
            if self._fatal is not None:
                raise runtime_failed(self._fatal)
            self._loop = asyncio.get_running_loop()
            self._waiting.append(asked)
            self._admit()
            async for step in flow.steps():
                yield step
        finally:
            self._leave(asked)

    async def score(
        self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Log-probabilities under the raw logits; meanwhile the batch pauses between two steps."""
        check_prompt(prompt_ids, self.context, self.vocabulary)
        check_continuations(len(prompt_ids), continuations, self.context, self.vocabulary)
        return await self._apart(score_causal, prompt_ids, continuations)

    async def read(self, prompt_ids: Sequence[int], top_logprobs: int) -> Step:
        """See `Runtime`; meanwhile the batch pauses."""
        check_prompt(prompt_ids, self.context, self.vocabulary)
        return await self._apart(read_causal, prompt_ids, top_logprobs)

    def stats(self) -> RuntimeStats:
        """Counts of the library's scheduler.

        Requests that it has not read or not yet got count as waiting.
        """
        scheduler = self._batch.scheduler
        unread = self._manager.input_queue.qsize() + len(self._waiting)
        return RuntimeStats(
            running=len(scheduler.active_requests),
            waiting=len(scheduler.waiting_requests) + unread,
            kv_usage=cache_usage(self._batch.cache),
        )

    def close(self) -> None:
        """Stops the generation thread at its next step; running requests fail. May be called again."""
        if self._manager.is_running():
            self._manager.stop(block=True, timeout=STOP_SECONDS, hard_stop=True)

    def _admit(self) -> None:
        for asked in self._places.admit(self._waiting, self._held, leaving=0):
            self._waiting.remove(asked)
            self._held.append(asked)
            self._hand_over(asked)

    def _hand_over(self, asked: Asked) -> None:
        self._logits.attach(asked.key, asked.decoding)
        self._manager.register_result_handler(asked.key, lambda output: self._receive(asked, output))
        accepted = self._manager.add_request(
            list(asked.prompt_ids),
            request_id=asked.key,
            max_new_tokens=min(asked.decoding.plan.max_tokens, self.context - len(asked.prompt_ids)),
            streaming=True,
        )
        if accepted is None:
            asked.flow.receive(FlowProgress((), finished=True, error="its generation thread has stopped"))

    def _receive(self, asked: Asked, output: Any) -> None:
        progress = FlowProgress(output.generated_tokens, output.is_finished(), output.error)
        asked.flow.receive(progress)
        if progress.finished:
            self._give_place(asked)

    def _give_place(self, asked: Asked) -> None:
        if asked in self._held:
            self._held.remove(asked)
            self._admit()

    def _leave(self, asked: Asked) -> None:
        if asked in self._waiting:
            self._waiting.remove(asked)
            return
        self._logits.detach(asked.key)
        if not asked.flow.is_finished:
            self._cancel(asked.key)
        with self._manager.output_router._lock:
            self._manager.output_router.result_handlers.pop(asked.key, None)
        # The step that runs during a cancel puts its output here, and nothing else reads this queue.
        strays = self._manager.output_router.output_queue
        with suppress(queue.Empty):
            while not strays.empty():
                strays.get_nowait()
        self._give_place(asked)

    def _cancel(self, key: str) -> None:
        self._manager.cancel_request(key)

    async def _apart(self, compute: Callable[..., Found], *given: Any) -> Found:
        # A thread that ends: OpenMP keeps workers for each living thread that ran a parallel loop, and with
        # more of them than cores the generation thread makes 14 instead of 24 tokens/s from then on.
        once = ThreadPoolExecutor(1, "transformers-score")
        try:
            return await asyncio.get_running_loop().run_in_executor(once, self._paused, compute, *given)
        finally:
            once.shutdown(wait=False)

    def _paused(self, compute: Callable[..., Found], *given: Any) -> Found:
        try:
            with self._manager.pause():
                return compute(self._loaded.model, *given)
        except RuntimeError as error:
            raise runtime_failed(str(error)) from error

    def _watch(self, thread: threading.Thread) -> None:
        thread.join()
        error = self._manager.background_thread_status.fatal_error
        line = None if error is None else traceback.format_exception_only(error)[-1].strip()
        if self._loop is None or self._loop.is_closed():
            self._end(line)
        else:
            self._loop.call_soon_threadsafe(self._end, line)

    def _end(self, line: str | None) -> None:
        """Fails all requests at the end of the runtime; `line` is the reason, None after `close`."""
        self._fatal = line or "the model was closed"
        asked = [*self._held, *self._waiting]
        self._held, self._waiting = [], []
        for one in asked:
            one.flow.receive(FlowProgress((), finished=True, error=self._fatal))
        if line is not None:
            self._on_fatal(line)
