"""Sizes of the paged KV cache of continuous batching. Arithmetic only, no tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from handlers.runtimes.base import RuntimeConfig
from handlers.runtimes.cache_places import Places, reserve_tokens
from handlers.runtimes.transformers.load import Loaded

PAGE_TOKENS = 256
MIN_TOKENS = 4 * PAGE_TOKENS
CPU_CACHE_TOKENS = 32_768
CPU_BATCH_TOKENS = 512
CUDA_BATCH_TOKENS = 4096
CPU_REQUESTS = 64
CUDA_REQUESTS = 256
CUDA_FRACTION = 0.8
WORKING_BYTES = 512 * 1024**2


@dataclass(frozen=True, slots=True)
class CachePlan:
    """Sizes for `ContinuousBatchingConfig`; `blocks` None lets the library measure the GPU.

    `batch_tokens` limits one prefill chunk, which a cancel and the other requests have to wait for.
    """

    context: int
    blocks: int | None
    batch_tokens: int
    requests: int
    fraction: float


def plan_cache(config: RuntimeConfig, loaded: Loaded, free_gpu_bytes: int | None) -> CachePlan:
    """Cache sizes: on a CPU from context and declared memory, on a GPU a fraction of free memory.

    A context from the settings is kept even if memory is too small; the model's own maximum is reduced to the
    declared memory.
    """
    context = min(config.context or loaded.max_positions, loaded.max_positions)
    if free_gpu_bytes is not None:
        fraction = CUDA_FRACTION
        if config.memory is not None:
            fraction = min(fraction, max(0.05, (config.memory - loaded.weight_bytes) / free_gpu_bytes))
        return CachePlan(context, None, CUDA_BATCH_TOKENS, CUDA_REQUESTS, fraction)
    tokens = max(context + reserve_tokens(context), CPU_CACHE_TOKENS)
    if config.memory is not None:
        spare = config.memory - loaded.weight_bytes - WORKING_BYTES
        tokens = max(MIN_TOKENS, min(tokens, spare // bytes_per_token(loaded.model)))
    if config.context is None:
        context = min(context, tokens)
    # One page more than the longest request: the scheduler allocates the page of the next token early.
    blocks = pages(max(tokens, context)) + 1
    return CachePlan(context, blocks, CPU_BATCH_TOKENS, CPU_REQUESTS, 0.9)


def pages(tokens: int) -> int:
    """The number of pages for `tokens` tokens."""
    return -(-tokens // PAGE_TOKENS)


def places(tokens: int, context: int) -> Places:
    """Admission to a cache of `tokens` tokens, with a reserve for short requests if there is room for it."""
    blocks = pages(tokens)
    return Places(blocks, max(0, min(pages(reserve_tokens(context)), blocks - pages(context))))


def bytes_per_token(model: Any) -> int:
    """Bytes of keys and values of one token in all layers, as if every layer had full attention."""
    text = model.config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * head_dim * model.dtype.itemsize)
