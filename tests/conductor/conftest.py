"""Fixtures: a scripted gateway, a project folder, and the command line with both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from conductor.cli import main
from tests.conductor.command_line import Invoke
from tests.conductor.fake_gateway import FakeGateway

TABLE = """\
# LLM Server Settings

| Category/Area | Best Open Source Model | VRAM/RAM Requirements | Technical Model Name | Stay Loaded \
| Precision |
|---|---|---|---|---|---|
| **Conversational Chat** | Demo | ~1GB (Q4_1) | `demo/model.gguf` | true | Q4_1 |
| **General Reasoning** | Demo | ~1GB (Q4_1) | `demo/model.gguf` | false | Q4_1 |
"""


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with FakeGateway() as fake:
        yield fake


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a SETTINGS.md of two rows that share their weights; the current one."""
    (tmp_path / "SETTINGS.md").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def conductor(project: Path) -> Invoke:
    """`conductor` with arguments; `input` is its piped standard input."""

    def invoke(*arguments: str, input: str | None = None) -> Result:
        return CliRunner().invoke(main, list(arguments), input=input)

    return invoke
