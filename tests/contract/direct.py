"""The inference libraries, called as in their own documentation, without code of the project."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlers.wire import Message


@dataclass(frozen=True)
class Penalties:
    """Penalties of a request, as defined by OpenAI and Keskar et al. (2019)."""

    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    def lower(self, row: Any, prompt_ids: Sequence[int], said: Sequence[int]) -> None:
        """Apply the penalties to the logits of the token after `said`, in place."""
        for token in {*prompt_ids, *said}:
            by = self.repetition_penalty
            row[token] = row[token] * by if row[token] < 0 else row[token] / by
        for token, count in Counter(said).items():
            row[token] -= self.presence_penalty + self.frequency_penalty * count


def gaps(
    runtime: str,
    folder: Path,
    prompt_ids: Sequence[int],
    answer_ids: Sequence[int],
    penalties: Penalties = Penalties(),
) -> list[float]:
    """Distance of each answer token's logit from the highest logit at its position."""
    compute = {"openvino": _openvino, "transformers": _transformers}[runtime]
    rows = compute(folder, [*prompt_ids, *answer_ids])[len(prompt_ids) - 1 : -1].copy()
    for number, row in enumerate(rows):
        penalties.lower(row, prompt_ids, answer_ids[:number])
    return [float(row.max() - row[token]) for row, token in zip(rows, answer_ids, strict=True)]


def sanitized(folder: Path, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation by transformers, with control tokens in contents encoded as text."""
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


def _openvino(folder: Path, ids: Sequence[int]) -> Any:
    import numpy as np
    import openvino as ov

    compiled = ov.Core().compile_model(str(folder / "openvino_model.xml"), "CPU")
    length = len(ids)
    given = {
        "input_ids": np.array([ids], dtype=np.int64),
        "attention_mask": np.ones((1, length), dtype=np.int64),
        "position_ids": np.arange(length, dtype=np.int64)[None],
        "beam_idx": np.zeros(1, dtype=np.int32),
    }
    return compiled.create_infer_request().infer(given)["logits"][0]


def _transformers(folder: Path, ids: Sequence[int]) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    with torch.inference_mode():
        logits = model(torch.tensor([list(ids)])).logits[0].float().numpy()
    del model
    gc.collect()
    return logits
