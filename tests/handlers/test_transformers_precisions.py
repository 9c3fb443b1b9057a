"""The real demo model in every precision, and its greedy text against the library called directly."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from conductor_core.catalogue import Precision
from handlers.runtimes.base import RuntimeConfig
from handlers.runtimes.transformers.causal import TransformersRuntime
from handlers.runtimes.transformers.load import dtype_of
from tests.demo import demo_folder
from tests.handlers.runtime_calls import ask

QUESTION = "The capital of France is"


@pytest.fixture(scope="module")
def folder() -> Path:
    return demo_folder("transformers", Precision.BF16)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("precision", ["FP32", "FP16", "BF16", "8-bit", "4-bit"])
async def test_every_precision_answers_several_at_once(
    folder: Path, tokenizer: Tokenizer, precision: str
) -> None:
    fatal: list[str] = []
    runtime = TransformersRuntime(RuntimeConfig(folder, precision, threads=2), fatal.append)
    prompt = tokenizer.encode(QUESTION).ids
    schema: dict[str, Any] = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}}
    schema |= {"required": ["city"], "additionalProperties": False}
    try:
        greedy, sampled, shaped = await asyncio.gather(
            ask(runtime, prompt, 8),
            ask(runtime, prompt, 8, temperature=0.8, top_p=0.9, top_k=50, seed=1),
            ask(runtime, prompt, 40, json_schema=schema),
        )
    finally:
        runtime.close()
    assert "Paris" in tokenizer.decode(greedy.ids)
    assert sampled.reason
    assert json.loads(tokenizer.decode(shaped.ids))["city"] in {"Paris", "Rome"}
    assert fatal == []


async def test_greedy_ids_equal_generate_called_directly(folder: Path, tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode(QUESTION).ids
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype_of("FP32"))
    output = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=24,
    )
    runtime = TransformersRuntime(RuntimeConfig(folder, "FP32", threads=2), lambda _: None)
    try:
        answer = await ask(runtime, prompt, 24)
    finally:
        runtime.close()
    assert answer.ids == output[0, len(prompt) :].tolist()[: len(answer.ids)]
    assert len(answer.ids) == 24 or answer.reason == "stop"
