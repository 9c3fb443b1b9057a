"""Packages that a row needs, and the commands that install them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from conductor_core.runtimes import PINS, cure_for_failure, cure_for_missing, needs, requirement
from conductor_core.settings.parser import parse_settings

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
TABLE = """\
| Category/Area | Best Open Source Model | VRAM/RAM Requirements | Technical Model Name | Stay Loaded \
| Precision |
|---|---|---|---|---|---|
| Chat | Demo | ~1GB | `demo/model.gguf` | true | Q4_1 |
| Code | Demo | ~1GB | `org/name` | true | {precision} |
"""


def test_the_pins_are_those_of_the_project() -> None:
    project = tomllib.loads(PROJECT.read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["java"]]
    pinned = dict(line.split("==") for line in lines)
    assert {name: pinned.get(name) for name in PINS} == PINS


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("bitsandbytes", "pip install bitsandbytes==0.50.2"),
        ("openvino_genai", "pip install openvino-genai==2026.4.1.0"),
        ("openvino.runtime", "pip install openvino-genai==2026.4.1.0"),
        ("ts.torch_handler", "pip install torchserve==0.12.0"),
        ("torch", "make install"),
        ("unknown_thing", "pip install unknown-thing"),
    ],
)
def test_a_missing_package_has_a_command(package: str, command: str) -> None:
    assert cure_for_missing(package) == command


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("ModuleNotFoundError: No module named 'bitsandbytes'", "pip install bitsandbytes==0.50.2"),
        ("No module named 'transformers.models.x'", "pip install transformers==5.23.0"),
        (
            "requires the latest version of bitsandbytes: `pip install -U bitsandbytes`",
            "bitsandbytes==0.50.2",
        ),
        ("No package metadata was found for accelerate", "pip install accelerate==1.15.0"),
        ("No module named 'somebody_else'", None),
        ("out of memory", None),
    ],
)
def test_a_load_that_fails_for_a_package_names_the_same_command(text: str, command: str | None) -> None:
    cure = cure_for_failure(text)
    assert cure is None if command is None else (cure or "").endswith(command)


@pytest.mark.parametrize(("precision", "wanted"), [("4-bit", True), ("8-bit", True), ("BF16", False)])
def test_bitsandbytes_is_needed_by_quantised_rows_alone(precision: str, wanted: bool) -> None:
    catalogue = parse_settings(TABLE.format(precision=precision))
    found = {n.package: n.wanted_by for n in needs((r, s.runtime) for s in catalogue.sets for r in s.rows)}
    assert found.get("bitsandbytes") == (("code",) if wanted else None)
    assert found["openvino-genai"] == ("chat",)
    assert found["transformers"] == ("code",)
    assert found["torchserve"] == ("this project",)


def test_every_need_has_a_pin() -> None:
    catalogue = parse_settings(TABLE.format(precision="4-bit"))
    for need in needs((row, one.runtime) for one in catalogue.sets for row in one.rows):
        assert requirement(need.package) == f"{need.package}=={PINS[need.package]}"
