"""Decoding parameters that each runtime takes; a test compares them with the runtimes themselves.

Listed here because asking a runtime means importing its library, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conductor_core.catalogue import RuntimeName
from handlers.engines.registry import engine_class
from handlers.wire import Sampling

REFUSED: Mapping[RuntimeName, frozenset[str]] = {
    "openvino": frozenset({"logit_bias", "top_logprobs"}),
    "transformers": frozenset(),
    "vllm": frozenset(),
}


def parameter_table(runtime: RuntimeName, engine: str, row: Mapping[str, Any]) -> list[tuple[str, bool, Any]]:
    """List (name, taken or not, default of row or engine) for each decoding parameter."""
    defaults = dict(engine_class(engine).defaults)
    return [
        (name, name not in REFUSED[runtime], row.get(name, defaults.get(name)))
        for name in Sampling.model_fields
    ]
