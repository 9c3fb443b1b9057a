"""Makes a `SamplingPlan` from the decoding fields of a request, checked against runtime and context.

Pure: runs no model. Every refusal is a RequestError 400 that names the parameter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.runtimes.base import Embedder, Runtime, SamplingPlan
from handlers.wire import RequestError, Sampling


@dataclass(frozen=True, slots=True)
class Refused:
    """The decoding parameters that a runtime does not support, with its name."""

    runtime: str
    parameters: Collection[str]

    def check(self, sampling: Sampling) -> None:
        """Raises RequestError 400 naming the first parameter that the runtime does not support."""
        for name in sorted(self.parameters):
            if getattr(sampling, name) not in (None, 0):
                raise RequestError(
                    f"runtime {self.runtime} does not support {name}",
                    code="unsupported_parameter",
                    param=name,
                )


NOTHING_REFUSED = Refused("", ())


def check_context(tokens: int, context: int, *, counted: bool = True) -> None:
    """Raises RequestError 400 with both token counts if a prompt leaves no room for an answer.

    If `counted` is False, `tokens` is a lower bound of the prompt's tokens.
    """
    if tokens >= context:
        has = f"{tokens} tokens" if counted else f"at least {tokens} tokens"
        raise RequestError(
            f"the prompt has {has}, the model's context is {context} tokens",
            code="context_length_exceeded",
            param="prompt",
        )


def check_ids(prompt_ids: Sequence[int], vocabulary: int) -> None:
    """Raises RequestError 400 for the first token id outside the vocabulary."""
    wrong = next((token for token in prompt_ids if not 0 <= token < vocabulary), None)
    if wrong is not None:
        raise RequestError(
            f"the prompt has token id {wrong}; ids are from 0 to {vocabulary - 1}",
            code="invalid_token_id",
            param="prompt",
        )


def make_plan(sampling: Sampling, prompt_tokens: int, runtime: Runtime, refused: Refused) -> SamplingPlan:
    """All decoding values, with defaults filled in.

    RequestError 400 names one that is `refused`. `max_tokens` is reduced to the room in the
    context; the answer then ends with `finish_reason` length.
    """
    refuse_embedder(runtime)
    check_context(prompt_tokens, runtime.context)
    refused.check(sampling)
    room = runtime.context - prompt_tokens
    plan: dict[str, Any] = {
        name: value
        for name, value in sampling
        if value is not None and name not in {"stop", "max_tokens", "top_k", "logit_bias"}
    }
    return SamplingPlan(
        max_tokens=min(sampling.max_tokens or room, room),
        top_k=sampling.top_k or None,
        logit_bias=token_bias(sampling.logit_bias, runtime.vocabulary),
        **plan,
    )


def refuse_embedder(runtime: Runtime) -> None:
    """Raises RequestError 400 if the model is an embedding model, which generates no text."""
    if isinstance(runtime, Embedder):
        raise RequestError(
            "this model only makes embeddings: use the engine embedding, or another model",
            code="unsupported",
            param="model",
        )


def token_bias(bias: dict[str, float] | None, vocabulary: int) -> dict[int, float] | None:
    """`logit_bias` with its keys as token ids; RequestError 400 for a key outside the vocabulary."""
    if not bias:
        return None
    for key in bias:
        # Ten digits are enough for every vocabulary; int() raises another error for thousands of digits.
        if not (key.isascii() and key.isdigit() and len(key) <= 10 and int(key) < vocabulary):
            raise RequestError(
                f"logit_bias names token {key[:40]!r}; ids are from 0 to {vocabulary - 1}",
                code="invalid_logit_bias",
                param="logit_bias",
            )
    return {int(key): value for key, value in bias.items()}
