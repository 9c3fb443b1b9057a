"""The demo models in the form of each runtime, made once in `models/` by the project's own build tool."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from archives.build_context import BuildContext
from archives.prepare import prepare
from conductor_core.catalogue import Precision, RuntimeName
from conductor_core.paths import ProjectPaths
from conductor_core.settings.parser import parse_settings

SETTINGS = Path(__file__).parent.parent / "SETTINGS.md"


@cache
def demo_folder(runtime: RuntimeName, precision: Precision = Precision.FILE) -> Path:
    """The folder that a worker of `runtime` loads the demo model from."""
    row = parse_settings(SETTINGS.read_text(encoding="utf-8")).rows[0]
    asked = replace(row, precision=precision, file_precision=None)
    return prepare(asked, runtime, BuildContext(ProjectPaths(SETTINGS))).path


@cache
def embedding_folder() -> Path:
    """The folder that a worker loads the demo embedding model from."""
    row = parse_settings(SETTINGS.read_text(encoding="utf-8")).row("embedding")
    assert row is not None
    return prepare(row, "transformers", BuildContext(ProjectPaths(SETTINGS))).path
