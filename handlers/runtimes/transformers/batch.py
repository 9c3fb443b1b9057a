"""Hooks into transformers' continuous batching: per-request decoding inside its shared batch.

By itself the library takes only temperature, top_k and top_p per request
(`generation/continuous_batching/cb_logits_processors.py:325` in 5.23.0). It does call its list of logits
processors with the requests of the batch before the forward pass (`input_outputs.py:423`) and with the
logits, one row for each request that gets a token and in that order, after it (`model_runner.py:211`); both
calls come from its generation thread. The list here uses that pair of calls. It needs the library's
synchronous mode without CUDA graphs: the asynchronous mode prepares a batch before the tokens of the last one
are known, and a replayed graph runs no Python.

The scheduler here corrects a deadlock of the library's own. If running answers outgrow the KV cache, that one
preempts the newest request and admits no request until one has finished. A cancelled request does not count
as finished (`continuous_api.py:569`): if the request that holds the cache is cancelled, nothing runs, nothing
can finish, and all requests wait for ever.
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
from handlers.runtimes.transformers.load import Loaded, ModelLoadError
from handlers.runtimes.transformers.memory import PAGE_TOKENS, CachePlan

SCHEDULER = "conductor"

POLL_S = 0.01


class CancelledMakesRoom(FIFOScheduler):
    """A first-come, first-served scheduler that admits waiting requests after a cancelled request too."""

    def clear_cancelled_requests(self) -> list[RequestState]:
        """Called by the generation thread before it plans a step."""
        gone: list[RequestState] = super().clear_cancelled_requests()
        if gone:
            self.block_new_requests = False
        return gone


def register() -> None:
    """Registers the scheduler by name, because the library's configuration takes only a name."""
    SCHEDULER_MAPPING[SCHEDULER] = CancelledMakesRoom


class PerRequestLogits(ContinuousBatchingLogitsProcessorList):
    """Logits processor list that gives each row of logits to the decoding of its own request.

    `on_orphan` gets the id of a request in the batch that is not attached. The library has read its cancel
    before the request itself, and would otherwise lose the cancel.
    """

    def __init__(self, on_orphan: Callable[[str], None]) -> None:
        super().__init__(LogitsProcessorList())
        self.do_processing = True
        self._on_orphan = on_orphan
        self._decodings: dict[str, RequestDecoding] = {}
        self._rows: list[RequestDecoding | None] = []

    def attach(self, request_id: str, decoding: RequestDecoding) -> None:
        """Sets the decoding of a request; call it before the request is given to the library."""
        self._decodings[request_id] = decoding

    def detach(self, request_id: str) -> None:
        self._decodings.pop(request_id, None)

    def prepare_tensor_args(self, requests_in_batch: list[Any], arg_storage: Tensor) -> Tensor:
        """Called with the batch before its forward pass; remembers the decoding of each row."""
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
        """Called with float logits (rows, vocabulary) after the forward pass; extra rows are padding."""
        for row, decoding in zip(scores, self._rows, strict=False):
            if decoding is not None:
                decoding.choose(row)
        return scores


def produced(state: Any) -> Sequence[int]:
    """All tokens that a request has produced, also after the scheduler preempted and restarted it.

    The library moves the first tokens of a restarted request to its prompt (`requests.py:295`).
    """
    if state._true_initial_tokens:
        return [*state.initial_tokens[state._true_initial_tokens :], *state.generated_tokens]
    tokens: list[int] = state.generated_tokens
    return tokens


def start_batching(loaded: Loaded, plan: CachePlan, logits: PerRequestLogits) -> Any:
    """A running `ContinuousBatchingManager` of the model, with its KV cache allocated."""
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
    # Only the generation thread allocates: a parallel loop on this thread too would give OpenMP more threads
    # than cores, and those would sleep between two loops from then on (14 instead of 25 tokens/s).
    while manager.batch_processor is None and manager.is_running():
        time.sleep(POLL_S)
    if manager.batch_processor is None:
        cause = manager.background_thread_status.fatal_error
        raise ModelLoadError(f"the KV cache could not be allocated: {cause}")


def held_tokens(manager: Any) -> int:
    """The number of tokens that fit into the KV cache."""
    return int(manager.batch_processor.cache.num_blocks) * PAGE_TOKENS


def cache_usage(cache: Any) -> float:
    """The fraction of a `PagedAttentionCache` that running requests hold.

    Blocks that it keeps for later prompts, and frees when needed, count as free.
    """
    kept = sum(len(a.ledger.cached_blocks) * a.bytes_per_block for a in cache.cache_allocators.values())
    return float(1.0 - cache.compute_free_capacity() - kept / (cache.num_sectors * cache.bytes_per_sector))
