"""The hook into transformers' continuous batching: per-request decoding inside its shared batch.

Out of the box the library takes only temperature, top_k and top_p per request
(`generation/continuous_batching/cb_logits_processors.py:325` in 5.23.0). It does call its list of logits
processors with the requests of the batch before the forward pass (`input_outputs.py:423`) and with the
logits, one row for each request that gets a token and in that order, after it (`model_runner.py:211`); both
calls come from its generation thread. The list here uses that pair of calls. It needs the library's
synchronous mode without CUDA graphs: the asynchronous mode prepares a batch before the tokens of the last one
are known, and a replayed graph runs no Python.

The library's scheduler comes without its one standstill. Where running answers outgrow the KV cache it puts
the newest back to wait, and lets nobody in until a request has finished. One that is cancelled does not count
as finished (`continuous_api.py:569`): when the holder of the cache leaves, nothing runs, nothing can finish,
and everybody waits for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from transformers import ContinuousBatchingConfig, GenerationConfig, LogitsProcessorList
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.requests import RequestState
from transformers.generation.continuous_batching.scheduler import SCHEDULER_MAPPING, FIFOScheduler

from handlers.runtimes.transformers.decoding import RequestDecoding
from handlers.runtimes.transformers.load import Loaded, LoadError
from handlers.runtimes.transformers.memory import PAGE_TOKENS, CachePlan

SCHEDULER = "conductor"

POLL_S = 0.01


class CancelledMakesRoom(FIFOScheduler):
    """First come, first served; a cancelled request lets those who wait in, as a finished one does."""

    def clear_cancelled_requests(self) -> list[RequestState]:
        """Called by the generation thread before it plans a step."""
        gone: list[RequestState] = super().clear_cancelled_requests()
        if gone:
            self.block_new_requests = False
        return gone


def register() -> None:
    """Make the scheduler known by its name, which is all that the library's configuration takes."""
    SCHEDULER_MAPPING[SCHEDULER] = CancelledMakesRoom


class PerRequestLogits(ContinuousBatchingLogitsProcessorList):
    """Processor list that hands each row of logits to the decoding of its own request.

    `on_orphan` gets the id of a request in the batch that was never attached or is detached: a cancel that
    the library drained before the request it names, which it would otherwise forget.
    """

    def __init__(self, on_orphan: Callable[[str], None]) -> None:
        super().__init__(LogitsProcessorList())
        self.do_processing = True
        self._on_orphan = on_orphan
        self._decodings: dict[str, RequestDecoding] = {}
        self._rows: list[RequestDecoding | None] = []

    def attach(self, request_id: str, decoding: RequestDecoding) -> None:
        """Make `decoding` answer for the request; before the library hears of the request."""
        self._decodings[request_id] = decoding

    def detach(self, request_id: str) -> None:
        self._decodings.pop(request_id, None)

    def prepare_tensor_args(self, requests_in_batch: list[Any], arg_storage: Tensor) -> Tensor:
        """Called with the batch before its forward pass; remembers the rows to come."""
        self._rows = []
        for request in requests_in_batch:
            decoding = self._decodings.get(request.state.request_id)
            if decoding is None:
                self._on_orphan(request.state.request_id)
            if request.has_new_token:
                self._rows.append(decoding)
                if decoding is not None:
                    decoding.advance(produced(request.state))
        return arg_storage

    def __call__(self, input_ids: Tensor, scores: Tensor, logits_processor_args: Tensor) -> Tensor:
        """Called with float logits (rows, vocabulary) after the forward pass; spare rows are padding."""
        for row, decoding in zip(scores, self._rows, strict=False):
            if decoding is not None:
                decoding.choose(row)
        return scores


def produced(state: Any) -> Sequence[int]:
    """All tokens a request has produced, also after the scheduler took its cache away and started it again.

    Such a request has its first tokens moved to the prompt (`requests.py:295`).
    """
    if state._true_initial_tokens:
        return [*state.initial_tokens[state._true_initial_tokens :], *state.generated_tokens]
    tokens: list[int] = state.generated_tokens
    return tokens


def start_batching(loaded: Loaded, plan: CachePlan, logits: PerRequestLogits) -> Any:
    """A running `ContinuousBatchingManager` over the model, its KV cache allocated."""
    register()
    manager = loaded.model.init_continuous_batching(
        GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False, eos_token_id=list(loaded.eos_ids) or None
        ),
        ContinuousBatchingConfig(
            page_size=PAGE_TOKENS,
            num_blocks=plan.blocks,
            max_batch_tokens=plan.batch_tokens,
            max_requests_per_batch=plan.requests,
            max_memory_percent=plan.fraction,
            scheduler_type=SCHEDULER,
            use_cuda_graph=False,
            use_async_batching=False,
            auto_switch_to_flash=False,
        ),
    )
    manager.logit_processor = logits
    manager.start()
    _await_cache(manager)
    return manager


def _await_cache(manager: Any) -> None:
    # Allocated by the generation thread, on its own: with a parallel loop on this thread too OpenMP has more
    # threads than cores, and those sleep between two loops from then on (14 instead of 25 tokens/s).
    while manager.batch_processor is None and manager.is_running():
        time.sleep(POLL_S)
    if manager.batch_processor is None:
        cause = manager.background_thread_status.fatal_error
        raise LoadError(f"the KV cache could not be allocated: {cause}")


def held_tokens(manager: Any) -> int:
    """How many tokens the KV cache holds."""
    return int(manager.batch_processor.cache.num_blocks) * PAGE_TOKENS


def cache_usage(cache: Any) -> float:
    """Fraction of a `PagedAttentionCache` that running requests hold.

    Blocks that it keeps for prompts yet to come, and gives up when it is short, count as free.
    """
    kept = sum(len(a.ledger.cached_blocks) * a.bytes_per_block for a in cache.cache_allocators.values())
    return float(1.0 - cache.compute_free_capacity() - kept / (cache.num_sectors * cache.bytes_per_sector))
