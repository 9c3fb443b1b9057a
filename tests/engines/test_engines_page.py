"""docs/engines.md has every engine, option and finding, and its examples are accepted requests."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from handlers.engines.registry import engine_class, engine_names
from handlers.strict_json import parse
from handlers.wire import GenerateBody, GenerateRequest
from tests.engines.engine_cases import ANSWERS
from tests.source_tree import ROOT

PAGE = (ROOT / "docs/engines.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def test_every_engine_has_a_section_and_the_readme_names_the_page() -> None:
    assert set(SECTIONS) == set(engine_names()), "docs/engines.md has a section for each engine"
    assert "(docs/engines.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_tables_of_options_are_the_engines_own() -> None:
    command = [sys.executable, str(ROOT / ".ci/engine_tables.py"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for engine, section in SECTIONS.items():
        written = re.search(rf"<!-- options of {engine}: .*?-->\n(.*?)<!-- end -->", section, re.DOTALL)
        assert written
        named = set(re.findall(r"^\| `(\w+)` \|", written[1], re.MULTILINE))
        assert named == engine_class(engine).options_type.names()


@pytest.mark.parametrize("engine", sorted(SECTIONS.keys() & ANSWERS.keys()))
def test_every_finding_is_named_and_no_other(engine: str) -> None:
    _, _, table = SECTIONS[engine].partition("| finding |")
    named = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    request = GenerateRequest(id="r", engine=engine, prompt="What is 6 * 7?")
    found = [engine_class(engine)().check(request, text).keys() for text in ANSWERS[engine]]
    assert named == set().union(*found), (
        "the section has a table `| finding | what it says |` of each finding"
    )


@pytest.mark.parametrize("engine", sorted(SECTIONS.keys() & ANSWERS.keys()))
def test_its_example_is_a_request_and_its_answer_has_the_findings(engine: str) -> None:
    example = re.search(r"^curl .* -d '(.*)'$", SECTIONS[engine], re.MULTILINE)
    answer = re.search(r"^```json\n(.*?)^```", SECTIONS[engine], re.MULTILINE | re.DOTALL)
    assert example, "the section has a request: curl ... -d '{...}' on one line"
    assert answer, "the section has the answer of that request as a block of json"
    body = parse(GenerateBody, example[1])
    assert body.category == engine
    request = GenerateRequest(id="r", engine=engine, prompt=body.asked_prompt, options=body.options)
    engine_class(engine)().accept(request)
    named = set(re.findall(r"^\| `(\w+)` \|", SECTIONS[engine].partition("| finding |")[2], re.MULTILINE))
    assert json.loads(answer[1])["findings"].keys() == named
