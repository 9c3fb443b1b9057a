"""Every list of engines has every engine: a forgotten one is named with the file that lacks it."""

from __future__ import annotations

import re

import pytest

from conductor_admin.auto.examples import EXAMPLES
from conductor_mcp.tools.engine_tools import ENGINE_TOOLS
from handlers.engines.registry import engine_names
from tests.engines.engine_cases import ANSWERS, OPTIONS
from tests.source_tree import ROOT

ENGINES = set(engine_names())
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_CELLS = " ".join(re.findall(r"^\| (`[^|]+) \|", README, re.MULTILINE))
QUESTIONS = (ROOT / "conductor_admin/console/examples.js").read_text(encoding="utf-8")

LISTS = {
    "the table of options and findings in README.md": set(re.findall(r"`(\w+)`", FIRST_CELLS)) & ENGINES,
    "the questions of conductor_admin/console/examples.js": set(
        re.findall(r"^  (\w+): \[", QUESTIONS, re.MULTILINE)
    ),
    # A prompt never asks for embeddings.
    "EXAMPLES of conductor_admin/auto/examples.py": {*EXAMPLES, "embedding"},
    "OPTIONS of tests/engines/engine_cases.py": set(OPTIONS),
    "ANSWERS of tests/engines/engine_cases.py": set(ANSWERS),
}


@pytest.mark.parametrize("place", LISTS)
def test_every_list_of_engines_has_every_engine_and_no_other(place: str) -> None:
    assert LISTS[place] == ENGINES, f"{place}: an entry for each engine, and no other"


def test_every_tool_of_an_engine_is_in_the_readme() -> None:
    left_out = [tool.name for tool in ENGINE_TOOLS if f"`{tool.name}`" not in README]
    assert not left_out, "the table of tools in README.md has each of ENGINE_TOOLS"
