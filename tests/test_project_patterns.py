"""No regular expression of the project takes more than linear time on any text.

Patterns are found in the source, so that a new one is tested automatically. Each is tried with texts that are
made from its own parse tree, long enough to show quadratic time.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from handlers.inference import tokenizer
from tests.growth import Run, fault
from tests.pattern_attacks import attacks
from tests.pattern_finder import Made, Pattern, page_patterns, patterns
from tests.source_tree import ROOT, modules

CONTROL = ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|endoftext|>"]
MADE: dict[str, Callable[[], Iterable[re.Pattern[str] | None]]] = {
    "handlers/inference/tokenizer.py:_control_pattern": lambda: [
        re.compile("|".join(map(re.escape, CONTROL)))
    ],
    "handlers/inference/tokenizer.py:_behind_first_character": lambda: [
        tokenizer._behind_first_character(CONTROL)
    ],
}
"""Examples of patterns that exist only at run time, by the function that makes them."""


def used(pattern: re.Pattern[str], uses: frozenset[str]) -> Run:
    """The most expensive use of the pattern: `finditer` includes the work of all other methods."""
    if uses & {"search"} and not uses - {"search", "match", "fullmatch"}:
        return pattern.search
    if uses <= {"match", "fullmatch"}:
        return pattern.fullmatch if "fullmatch" in uses else pattern.match
    return lambda text: sum(1 for _ in pattern.finditer(text))


def verdict(text: str, flags: int, uses: frozenset[str]) -> str | None:
    """The failure of the pattern on the first text on which it is not linear; None if there is none."""
    run = used(re.compile(text, flags), uses)
    found = ((fault(run, attack), attack) for attack in attacks(text, flags))
    return next((f"{how}: {attack}" for how, attack in found if how), None)


def naming_patterns() -> list[Path]:
    """Modules that can have a pattern: they import `re` or name a pattern."""
    named = re.compile(r"\b(?:re|regex|pattern)\b")
    return [path for path in modules() if named.search((ROOT / path).read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", naming_patterns(), ids=str)
def test_every_pattern_of_the_project_is_linear(path: Path) -> None:
    slow = []
    for found in patterns([path]):
        if isinstance(found, Made):
            assert found.where in MADE, f"{found.where} makes a pattern at run time: name an example in MADE"
            examples = [
                (one.pattern, one.flags, frozenset({"finditer"})) for one in MADE[found.where]() if one
            ]
        else:
            examples = [(found.text, found.flags, found.uses)]
        for text, flags, uses in examples:
            if how := verdict(text, flags, uses):
                slow.append(f"{found.where} {text!r}: {how}")
    assert not slow, "\n".join(slow)


def test_examples_are_of_patterns_that_are_made_at_run_time() -> None:
    paths = {Path(where.partition(":")[0]) for where in MADE}
    assert {one.where for one in patterns(list(paths)) if isinstance(one, Made)} == MADE.keys()


@pytest.mark.parametrize(
    ("pattern", "use"),
    [
        (r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", "fullmatch"),
        (r"\s*translate\b[^:\n]{0,60}?\bto\s+(?:the\s+)?([\w ()-]{2,40}?)\s*:\s*(.+)", "fullmatch"),
        (r"^\s*\d{1,3}[.)]\s", "sub"),
        (r"(a+)+$", "match"),
        (r"(a|a)*$", "match"),
        (r"(?:x+x+)+y", "search"),
        (r"\s+$", "search"),
        (r"x*y", "search"),
        (r"[a-z]+@", "finditer"),
        (r"\s*,\s*", "split"),
        (r"<a.*?>.*?</a>", "findall"),
        (r"\d+\.?\d*", "fullmatch"),
        (r"\bimport .* from", "search"),
        (r"\$(.+?)\$|\\\((.+?)\\\)", "findall"),
    ],
)
def test_a_slow_pattern_is_refused(pattern: str, use: str) -> None:
    flags = re.DOTALL if "```" in pattern or "translate" in pattern else re.MULTILINE
    assert verdict(pattern, flags, frozenset({use}))


@pytest.mark.parametrize(
    ("pattern", "use"),
    [
        (r"\s+", "sub"),
        (r"\s*$", "match"),
        (r"[^\S\n]*+\d{1,3}[.)]\s", "match"),
        (r"(?:a++)+$", "match"),
        (r"\b\w++ :=", "search"),
        (r"(?<!\d)\d++\.", "search"),
        (r"[a-z]{1,64}@", "finditer"),
        (r"```([^`]*)```", "findall"),
        (r'"[^"\n]{1,2000}"', "finditer"),
        (r"(.+?) plus (.+)", "fullmatch"),
    ],
)
def test_a_linear_pattern_is_accepted(pattern: str, use: str) -> None:
    assert verdict(pattern, re.MULTILINE | re.DOTALL, frozenset({use})) is None


def test_patterns_are_found_however_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
import re
import re as other
from re import compile as made, sub
from pydantic import Field
WORD = "[a-z]"
A = re.compile(rf"{WORD}+1", re.IGNORECASE)
B = {name: [other.compile(one)] for name, one in {"b": "b+2"}.items()}
C: object = made("c+3")
NAME = Field(pattern="^d+4$")
SCHEMA = {"type": "string", "pattern": "e+5"}
def form(pattern):
    return re.compile(pattern)
F = form("f+6")
def use(text, word):
    A.fullmatch(text)
    sub("g+7", "", text)
    re.split(WORD + "8", text, flags=re.S)
    return re.search(word + "9", text)
"""
    (tmp_path / "found_here.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("tests.pattern_finder.ROOT", tmp_path)
    found = list(patterns([Path("found_here.py")]))
    kept = {one.text: one for one in found if isinstance(one, Pattern)}
    assert set(kept) == {"[a-z]+1", "b+2", "c+3", "^d+4$", "e+5", "f+6", "g+7", "[a-z]8"}
    assert kept["[a-z]+1"].uses == {"fullmatch"}
    assert kept["[a-z]+1"].flags == re.IGNORECASE
    assert kept["[a-z]8"].flags == re.DOTALL
    assert [one.where for one in found if isinstance(one, Made)] == ["found_here.py:use"]


def test_no_module_takes_patterns_from_elsewhere() -> None:
    """Patterns of other libraries would not be found."""
    imported = {
        str(path) for path in modules() if "import regex" in path.read_text() or "re2" in path.read_text()
    }
    assert not imported


def slow_in_node(found: Iterable[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Patterns of the page that are slow; their texts are made as for Python's patterns."""
    asked = [
        {"where": where, "source": source, "flags": flags, "texts": [
            (text.before, text.unit, text.after) for text in attacks(as_python(source))
        ]}
        for where, source, flags in found
    ]  # fmt: skip
    command = ["node", "--disable-warning=MODULE_TYPELESS_PACKAGE_JSON", str(ROOT / "tests/page_patterns.js")]
    answer = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, timeout=120, check=True
    )
    return list(json.loads(answer.stdout))


def as_python(source: str) -> str:
    """A JavaScript pattern in Python's syntax, similar enough to make texts from it."""
    named = re.sub(r"\(\?<(?=[A-Za-z])", "(?P<", source).replace("\\/", "/")
    return re.sub(r"\\p\{\w+\}", r"\\w", named).replace("[^]", r"[\s\S]")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node, as the page's own tests do")
def test_every_pattern_of_the_page_is_linear() -> None:
    found = list(page_patterns())
    assert len(found) > 15
    assert slow_in_node(found) == []


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node, as the page's own tests do")
@pytest.mark.parametrize(
    "source", [r"\s+$", r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$", r"(`+)([\s\S]*?[^`])\1(?!`)", r"^\s*\|?.*\|.*$"]
)
def test_a_slow_pattern_of_the_page_is_refused(source: str) -> None:
    assert slow_in_node([("here", source, "")])
