"""Names of the engines that are installed, by file name alone, since engines may be slow to import."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

FALLBACK_ENGINE = "general_reasoning"

_NOT_ENGINES = {"base"}


def known_engines() -> frozenset[str]:
    """The modules of `handlers.engines` that are engines; private ones and the base are not."""
    spec = find_spec("handlers.engines")
    folders = spec.submodule_search_locations if spec else None
    names = {file.stem for folder in folders or () for file in Path(folder).glob("*.py")}
    return frozenset(name for name in names - _NOT_ENGINES if not name.startswith("_"))
