"""The inference libraries called as their own documentation shows, with none of the project's code."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handlers.wire import Message


def greedy(runtime: str, folder: Path, prompt_ids: Sequence[int], max_tokens: int) -> str:
    """Greedy text after `prompt_ids`, decoded by transformers' tokenizer."""
    ids = {"openvino": _openvino, "transformers": _transformers}[runtime](folder, prompt_ids, max_tokens)
    return str(_tokenizer(folder).decode(ids, skip_special_tokens=True))


def sanitized(folder: Path, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation by transformers, control tokens of its contents encoded as text."""
    conversation = [m.model_dump() for m in messages]
    ids: list[int] = _tokenizer(folder).apply_chat_template(
        conversation,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
        sanitize_control_tokens=True,
    )
    return ids


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def _openvino(folder: Path, prompt_ids: Sequence[int], max_tokens: int) -> list[int]:
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    pipeline = genai.ContinuousBatchingPipeline(str(folder), genai.SchedulerConfig(), "CPU", {}, {})
    config = genai.GenerationConfig()
    config.max_new_tokens = max_tokens
    config.set_eos_token_id(2)
    handle = pipeline.add_request(0, ov.Tensor(np.array([prompt_ids], dtype=np.int64)), config)
    ids: list[int] = []
    while pipeline.has_non_finished_requests():
        pipeline.step()
        if handle.can_read():
            ids += [token for output in handle.read().values() for token in output.generated_ids]
    return ids


def _transformers(folder: Path, prompt_ids: Sequence[int], max_tokens: int) -> list[int]:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    inputs = torch.tensor([prompt_ids])
    with torch.inference_mode():
        output = model.generate(inputs, max_new_tokens=max_tokens, do_sample=False)
    del model
    gc.collect()
    ids: list[int] = output[0, inputs.shape[1] :].tolist()
    return ids
