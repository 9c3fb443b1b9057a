"""Finds an engine by name: the module `handlers.engines.<name>` and the one engine class defined in it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import handlers.engines
from handlers.checks.text.languages import load_library
from handlers.engines.base import BaseLLMEngine
from handlers.wire import RequestError

NOT_ENGINES = frozenset({"base", "registry"})
"""Modules that are not engines, besides those whose names begin with `_`, which engines share."""


@cache
def engine_names() -> tuple[str, ...]:
    """Names of all engines, sorted, from the files of this package."""
    found = {module.name for module in pkgutil.iter_modules(handlers.engines.__path__)}
    return tuple(sorted(name for name in found - NOT_ENGINES if not name.startswith("_")))


@cache
def engine_class(name: str) -> type[BaseLLMEngine]:
    """The engine class called `name`; RequestError 400 listing the names if there is none."""
    if name not in engine_names():
        raise RequestError(
            f"unknown engine {name!r}; available engines: {', '.join(engine_names())}",
            code="unknown_engine",
            param="engine",
        )
    module = importlib.import_module(f"handlers.engines.{name}")
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseLLMEngine)
        and value.__module__ == module.__name__
    )
    return found


def load_engines() -> None:
    """Imports all engines, and the library that one of them uses on the event loop."""
    for name in engine_names():
        engine_class(name)
    load_library()
