"""Fixtures of the build's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from archives.build_context import BuildContext
from conductor_core.catalogue import ModelRef, Row
from conductor_core.paths import ProjectPaths
from tests.archives.samples import FakeJob, Recorder, make_row


@pytest.fixture
def job() -> FakeJob:
    return FakeJob()


@pytest.fixture
def build_context(tmp_path: Path, job: FakeJob) -> BuildContext:
    return BuildContext(ProjectPaths.at(tmp_path / "SETTINGS.md"), progress=Recorder(), job=job)


@pytest.fixture
def gguf_row(tmp_path: Path) -> Row:
    """A row with a local file that only the fake converter accepts as a model."""
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    return make_row(ModelRef("path", "./tiny.gguf"))


@pytest.fixture(scope="session")
def demo_project(tmp_path_factory: pytest.TempPathFactory) -> ProjectPaths:
    """A project whose `models/` folder the tests of the demo model share."""
    return ProjectPaths.at(tmp_path_factory.mktemp("demo") / "SETTINGS.md")
