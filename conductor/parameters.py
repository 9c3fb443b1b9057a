"""Decoding parameters that a row takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conductor_core.catalogue import RuntimeName
from conductor_core.runtimes import RUNTIMES
from handlers.engines.registry import engine_class
from handlers.wire import Sampling


def parameter_table(runtime: RuntimeName, engine: str, row: Mapping[str, Any]) -> list[tuple[str, bool, Any]]:
    """List (name, taken or not, default of row or engine) for each decoding parameter."""
    defaults = dict(engine_class(engine).defaults)
    refused = RUNTIMES[runtime].refused
    return [(name, name not in refused, row.get(name, defaults.get(name))) for name in Sampling.model_fields]
