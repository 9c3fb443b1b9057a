"""Configuration of openvino-genai: the KV cache of a model, and the decoding of one request.

Sizes come from the converted model's own files; no pipeline is started.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openvino_genai as genai

from handlers.runtimes.base import RuntimeConfig, SamplingPlan
from handlers.runtimes.cache_places import reserve_tokens

BLOCK_TOKENS = 32
"""Tokens per KV block of the CPU plugin."""

OVERHEAD_BYTES = 400 * 2**20
"""Memory of interpreter, libraries and compiled graph of a worker, measured with a 135 M model."""

DEFAULT_KV_BYTES = 2**30

STEP_TOKENS = 128
"""Tokens that a step reads and generates while prompts are read.

It sets the time that a step blocks the loop. 256 tokens block it twice as long; with 64 a long prompt takes
half of each step from the short ones.
"""

MOST_STEP_TOKENS = 256
"""The library's limit of tokens per step: above `STEP_TOKENS`, since each stream needs a token per step."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes read from the converted model's own files."""

    context: int
    vocabulary: int
    weights_bytes: int
    eos: frozenset[int]

    @classmethod
    def read(cls, folder: Path) -> ModelShape:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return cls(
            context=config["max_position_embeddings"],
            vocabulary=config["vocab_size"],
            weights_bytes=(folder / "openvino_model.bin").stat().st_size,
            eos=eos_ids(folder, config),
        )


def eos_ids(folder: Path, config: dict[str, Any]) -> frozenset[int]:
    """All end-of-sequence ids of generation_config.json, else of config.json."""
    generation = folder / "generation_config.json"
    source = json.loads(generation.read_text(encoding="utf-8")) if generation.exists() else {}
    ids = source.get("eos_token_id", config.get("eos_token_id"))
    if ids is None:
        return frozenset()
    return frozenset(ids if isinstance(ids, list) else [ids])


def blocks_of(tokens: int) -> int:
    """The number of blocks for `tokens` tokens."""
    return -(-tokens // BLOCK_TOKENS)


def reserve_blocks(context: int) -> int:
    """The number of blocks reserved for short requests beside the longest one."""
    return blocks_of(reserve_tokens(context))


def cache_blocks(config: RuntimeConfig, shape: ModelShape, context: int) -> int:
    """Blocks of the cache: as many as `config.memory` allows, at least one whole context and the reserve."""
    least = blocks_of(context) + 2 + reserve_blocks(context)
    if not config.kv_token_bytes:
        return least
    room = DEFAULT_KV_BYTES
    if config.memory is not None:
        room = config.memory - shape.weights_bytes - OVERHEAD_BYTES
    return max(room // (config.kv_token_bytes * BLOCK_TOKENS), least)


def scheduler(blocks: int, *, prefixes: bool = True) -> Any:
    """A scheduler configuration with a KV cache of `blocks` blocks, with or without prefix caching."""
    made = genai.SchedulerConfig()
    # Without a bound the cache grows with every burst and never shrinks; memory is allocated at first use.
    made.num_kv_blocks = blocks
    made.max_num_batched_tokens = MOST_STEP_TOKENS
    made.enable_prefix_caching = prefixes
    return made


def properties(config: RuntimeConfig) -> dict[str, Any]:
    """Settings of the CPU plugin."""
    return {"INFERENCE_NUM_THREADS": config.threads} if config.threads else {}


def generation_config(plan: SamplingPlan, eos: frozenset[int]) -> Any:
    """`plan` as the library's configuration, where greedy decoding is a separate mode."""
    config = genai.GenerationConfig()
    config.max_new_tokens = plan.max_tokens
    config.stop_token_ids = set(eos)
    config.repetition_penalty = plan.repetition_penalty
    config.presence_penalty = plan.presence_penalty
    config.frequency_penalty = plan.frequency_penalty
    config.do_sample = plan.temperature > 0
    if config.do_sample:
        config.temperature = plan.temperature
        config.top_p = plan.top_p
        if plan.top_k is not None:
            config.top_k = plan.top_k
        # Without a seed, every sampled answer to the same prompt is the same text.
        config.rng_seed = secrets.randbits(32) if plan.seed is None else plan.seed
    if plan.with_logprobs:
        # Only of the chosen token, under the model's own distribution: measured equal at any temperature and
        # schema.
        config.logprobs = 1
    if plan.json_schema is not None:
        config.structured_output_config = genai.StructuredOutputConfig(
            json_schema=json.dumps(plan.json_schema)
        )
    return config
