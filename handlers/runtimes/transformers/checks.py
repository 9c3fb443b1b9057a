"""Checks of a request before it reaches transformers, where one bad value would end all requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from handlers.runtimes.base import SamplingPlan
from handlers.wire import RequestError


def check_prompt(prompt_ids: Sequence[int], context: int, vocabulary: int) -> None:
    """Raises RequestError 400 for an empty or too long prompt, or ids outside the vocabulary."""
    if not prompt_ids:
        raise RequestError("the prompt has no tokens", param="prompt")
    if len(prompt_ids) >= context:
        raise RequestError(
            f"the prompt has {len(prompt_ids)} tokens, the context of this model is {context}",
            param="prompt",
            code="context_length_exceeded",
        )
    check_ids(prompt_ids, vocabulary, "prompt")


def check_plan(plan: SamplingPlan, vocabulary: int) -> None:
    """Raises RequestError 400 for values that `make_plan` should have refused."""
    if plan.max_tokens < 1:
        raise RequestError("max_tokens is at least 1", param="max_tokens")
    if plan.temperature < 0:
        raise RequestError("temperature is at least 0", param="temperature")
    if plan.repetition_penalty <= 0:
        raise RequestError("repetition_penalty is above 0", param="repetition_penalty")
    check_ids(plan.logit_bias or (), vocabulary, "logit_bias")
    check_ids(plan.prefix_ids, vocabulary, "prefix_ids")


def check_continuations(
    prompt_length: int, continuations: Sequence[Sequence[int]], context: int, vocabulary: int
) -> None:
    """Raises RequestError 400 for a continuation beyond the context or with ids outside the vocabulary."""
    for continuation in continuations:
        check_ids(continuation, vocabulary, "continuations")
        if prompt_length + len(continuation) > context:
            raise RequestError(
                f"prompt and continuation have {prompt_length + len(continuation)} tokens, "
                f"the context of this model is {context}",
                param="continuations",
                code="context_length_exceeded",
            )


def check_ids(ids: Iterable[int], vocabulary: int, param: str) -> None:
    """Raises RequestError 400 that names `param` for the first id outside the vocabulary."""
    wrong = next((i for i in ids if not 0 <= i < vocabulary), None)
    if wrong is not None:
        raise RequestError(f"token id {wrong} is not below the vocabulary's {vocabulary}", param=param)


def runtime_failed(cause: str) -> RequestError:
    """The error 500 of every running request when the library fails."""
    return RequestError(
        f"the transformers runtime failed: {cause}", status=500, type="server_error", code="runtime_failed"
    )
