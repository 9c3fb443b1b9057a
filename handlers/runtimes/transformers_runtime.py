"""Runtime for causal Hugging Face models: transformers' continuous batching behind the runtime seam.

The library schedules, batches and pages the KV cache in a thread of its own; this adapter checks what goes
in, attaches each request's decoding (`transformers_batch`), carries its outputs to the event loop and notices
when the thread dies. Nothing of a request but ids reaches the library unchecked.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar

import torch

from handlers.runtimes.base import Runtime, RuntimeConfig, RuntimeStats, SamplingPlan, Step
from handlers.runtimes.transformers_batch import PerRequestLogits, cache_usage, held_tokens, start_batching
from handlers.runtimes.transformers_checks import (
    check_continuations,
    check_plan,
    check_prompt,
    runtime_failed,
)
from handlers.runtimes.transformers_decoding import RequestDecoding
from handlers.runtimes.transformers_embedding import EmbeddingRuntime
from handlers.runtimes.transformers_flow import Flow, Progress
from handlers.runtimes.transformers_load import is_sequence_to_sequence, load
from handlers.runtimes.transformers_memory import plan_cache
from handlers.runtimes.transformers_schema import SchemaCompiler
from handlers.runtimes.transformers_score import read_causal, score_causal
from handlers.runtimes.transformers_seq2seq import Seq2SeqRuntime
from handlers.sentence_modules import makes_embeddings

STOP_SECONDS = 30.0
Found = TypeVar("Found")


def open_runtime(config: RuntimeConfig, on_fatal: Callable[[str], None]) -> Runtime:
    """The runtime that fits the folder's architecture. Raises what `load` raises."""
    if makes_embeddings(config.model_path):
        return EmbeddingRuntime(config, on_fatal)
    if is_sequence_to_sequence(config.model_path):
        return Seq2SeqRuntime(config, on_fatal)
    return TransformersRuntime(config, on_fatal)


class TransformersRuntime:
    """A causal model under continuous batching. Nothing of the floor is refused, seeds included.

    A seed fixes the random draws of its request; logits still differ in their last bits with the
    neighbours in the batch, as in any batching server. `on_fatal` gets one line, once, on the event loop that
    served the last request (or on the watching thread if none was served), after the running requests failed.
    """

    name: ClassVar[str] = "transformers"
    refused: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: RuntimeConfig, on_fatal: Callable[[str], None]) -> None:
        self._loaded = load(config)
        self._device = self._loaded.model.device
        self._on_fatal = on_fatal
        self._flows: dict[str, Flow] = {}
        self._numbers = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fatal: str | None = None
        plan = plan_cache(config, self._loaded, _free_gpu_bytes(self._device))
        self._logits = PerRequestLogits(on_orphan=self._cancel)
        self._manager = start_batching(self._loaded, plan, self._logits)
        self._batch = self._manager.batch_processor
        self.context = min(plan.context, held_tokens(self._manager))
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
        key = f"{next(self._numbers)}:{request_id}"
        try:
            self._enter(key, flow, decoding, prompt_ids)
            async for step in flow.steps():
                yield step
        finally:
            self._leave(key, flow)

    async def score(
        self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Log-probabilities under the raw logits; the batch pauses between two steps meanwhile."""
        check_prompt(prompt_ids, self.context, self.vocabulary)
        check_continuations(len(prompt_ids), continuations, self.context, self.vocabulary)
        return await self._apart(score_causal, prompt_ids, continuations)

    async def read(self, prompt_ids: Sequence[int], top_logprobs: int) -> Step:
        """See `Runtime`; the batch pauses meanwhile."""
        check_prompt(prompt_ids, self.context, self.vocabulary)
        return await self._apart(read_causal, prompt_ids, top_logprobs)

    def stats(self) -> RuntimeStats:
        """Counts of the library's scheduler; requests it has not read yet are waiting."""
        scheduler = self._batch.scheduler
        waiting = len(scheduler.waiting_requests) + self._manager.input_queue.qsize()
        return RuntimeStats(
            running=len(scheduler.active_requests),
            waiting=waiting,
            kv_usage=cache_usage(self._batch.cache),
        )

    def close(self) -> None:
        """Stop the generation thread at its next step; running requests fail. Safe to call again."""
        if self._manager.is_running():
            self._manager.stop(block=True, timeout=STOP_SECONDS, hard_stop=True)

    def _enter(self, key: str, flow: Flow, decoding: RequestDecoding, prompt_ids: Sequence[int]) -> None:
        if self._fatal is not None:
            raise runtime_failed(self._fatal)
        self._loop = asyncio.get_running_loop()
        self._flows[key] = flow
        self._logits.attach(key, decoding)
        self._manager.register_result_handler(key, lambda output: flow.receive(_progress(output)))
        accepted = self._manager.add_request(
            list(prompt_ids),
            request_id=key,
            max_new_tokens=min(decoding.plan.max_tokens, self.context - len(prompt_ids)),
            streaming=True,
        )
        if accepted is None:
            raise runtime_failed("its generation thread has ended")

    def _leave(self, key: str, flow: Flow) -> None:
        self._flows.pop(key, None)
        self._logits.detach(key)
        if not flow.is_finished:
            self._cancel(key)
        with self._manager.output_router._lock:
            self._manager.output_router.result_handlers.pop(key, None)
        self._discard_strays()

    def _cancel(self, key: str) -> None:
        self._manager.cancel_request(key)

    def _discard_strays(self) -> None:
        # The step in flight at a cancel delivers here, and nobody else ever reads this queue.
        strays = self._manager.output_router.output_queue
        while not strays.empty():
            try:
                strays.get_nowait()
            except queue.Empty:
                return

    async def _apart(self, compute: Callable[..., Found], *given: Any) -> Found:
        # A thread that ends: OpenMP keeps workers for each living thread that ran a parallel loop, and with
        # more of them than cores the generation thread goes at 14 instead of 24 tokens/s from then on.
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
        if error is None:
            return
        line = traceback.format_exception_only(error)[-1].strip()
        if self._loop is None or self._loop.is_closed():
            self._end(line)
        else:
            self._loop.call_soon_threadsafe(self._end, line)

    def _end(self, line: str) -> None:
        self._fatal = line
        for flow in list(self._flows.values()):
            flow.receive(Progress((), finished=True, error=line))
        self._on_fatal(line)


def _progress(output: Any) -> Progress:
    return Progress(output.generated_tokens, output.is_finished(), output.error)


def _free_gpu_bytes(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    return torch.cuda.mem_get_info(device)[0]
