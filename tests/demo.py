"""The demo models in the form of each runtime, made once in `models/` by the project's own build tool."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

from archives.build_context import BuildContext
from archives.identity import identify
from archives.prepare import prepare
from archives.weights_info import Stamp
from conductor_core.catalogue import ModelRef, Precision, RuntimeName
from conductor_core.paths import ProjectPaths
from conductor_core.settings.parser import parse_settings

SETTINGS = Path(__file__).parent.parent / "SETTINGS.md"


@cache
def demo_folder(runtime: RuntimeName, precision: Precision = Precision.FILE) -> Path:
    """The folder that a worker of `runtime` loads the demo model from."""
    row = parse_settings(SETTINGS.read_text(encoding="utf-8")).rows[0]
    asked = replace(row, precision=precision, file_precision=None)
    return prepare(asked, runtime, BuildContext(ProjectPaths(SETTINGS))).path


def place_demo(ref: ModelRef, build_context: BuildContext) -> None:
    """Put the demo model where `ref`, a path, says, and beside it what a build would make for openvino."""
    made = demo_folder("openvino")
    (file,) = (made.parent / "source").glob("*.gguf")
    build_context.project.local_model(ref).symlink_to(file)
    identity = identify(ref, build_context)
    folder = build_context.folder(ref, identity) / made.name
    shutil.copytree(made, folder)
    stamp = Stamp.read(made)
    assert stamp
    replace(stamp, source=identity).write(folder)


@cache
def embedding_folder() -> Path:
    """The folder that a worker loads the demo embedding model from."""
    row = parse_settings(SETTINGS.read_text(encoding="utf-8")).row("embedding")
    assert row is not None
    return prepare(row, "transformers", BuildContext(ProjectPaths(SETTINGS))).path
