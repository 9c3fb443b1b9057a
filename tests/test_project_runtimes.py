"""One entry for each runtime: nothing else of the product names a runtime."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from conductor_core.catalogue import AUTO, ModelRef, Precision
from conductor_core.runtimes import PINS, RUNTIMES, RuntimeSpec, resolve_runtime
from handlers.wire import Sampling
from tests.source_tree import ROOT, modules

TABLE = Path("conductor_core/runtimes.py")
# A part of another name, such as `openvino-genai` or `sentence-transformers`, is not the runtime's name.
NAME = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, RUNTIMES))})(?![\w.-])")
LIBRARY = "the library transformers reads every folder of safetensors and every GGUF at the build"
EXCEPTIONS = {
    Path("archives/convert_job.py"): "the distributions whose versions a conversion records",
    Path("archives/supported.py"): LIBRARY,
    Path("archives/safety.py"): LIBRARY,
}
"""Modules with a runtime's name in a string, each with its reason."""


def module_path(spec: RuntimeSpec) -> Path:
    return Path(*spec.module.split(".")).with_suffix(".py")


def own_files(spec: RuntimeSpec) -> tuple[Path, Path]:
    """The folder of a runtime, and its bench script."""
    return module_path(spec).parent, Path("conductor/bench") / f"direct_{spec.name}.py"


def prose(tree: ast.AST) -> set[ast.AST]:
    """Docstrings, also those of constants: strings that are statements."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def names_of_runtimes(text: str) -> Iterator[str]:
    """Strings and imports in the source `text` that name a runtime: comparisons, keys, Literals, messages."""
    tree = ast.parse(text)
    told = prose(tree)
    folders = tuple(spec.module.rpartition(".")[0] for spec in RUNTIMES.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in told:
            yield from NAME.findall(node.value)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(folders):
            yield str(node.module)


@pytest.mark.parametrize(
    "text",
    [
        "if runtime == 'openvino': pass",
        "if runtime in ('auto', 'transformers'): pass",
        "table = {'openvino': 1}",
        "Name = Literal['transformers']",
        "raise ValueError(f'{name} is served by openvino')",
        "from handlers.runtimes.openvino.runtime import OpenVinoRuntime",
    ],
)
def test_a_name_is_found(text: str) -> None:
    assert list(names_of_runtimes(text))


@pytest.mark.parametrize(
    "text", ["'''Of openvino.'''", "name = 'openvino-genai'", "from transformers import AutoConfig"]
)
def test_documents_and_libraries_are_no_names_of_runtimes(text: str) -> None:
    assert not list(names_of_runtimes(text))


def test_only_its_entry_and_its_own_files_name_a_runtime() -> None:
    own = [TABLE, *(path for spec in RUNTIMES.values() for path in own_files(spec))]
    others = [path for path in modules() if not any(path.is_relative_to(one) for one in own)]
    assert len(others) > 200
    found = {path: list(names_of_runtimes((ROOT / path).read_text(encoding="utf-8"))) for path in others}
    assert {path for path, names in found.items() if names} == EXCEPTIONS.keys()


@pytest.mark.parametrize("spec", RUNTIMES.values(), ids=RUNTIMES)
def test_an_entry_has_its_module_its_bench_its_pins_and_known_parameters(spec: RuntimeSpec) -> None:
    tree = ast.parse((ROOT / module_path(spec)).read_text(encoding="utf-8"))
    assert "open_runtime" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert all((ROOT / path).exists() for path in own_files(spec))
    assert {*spec.packages, *spec.libraries} <= PINS.keys()
    assert spec.refused <= Sampling.model_fields.keys()
    assert spec.devices <= {"cpu", "cuda"}


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize(
    "ref",
    [
        ModelRef("hub", "org/name"),
        ModelRef("hub", "org/name", file="m.gguf"),
        ModelRef("path", "./m.gguf"),
        ModelRef("path", "./folder"),
        ModelRef("pypi", "package", "1", "m.gguf"),
    ],
)
def test_auto_has_a_runtime_for_every_model(ref: ModelRef, precision: Precision) -> None:
    assert resolve_runtime(ref, precision, AUTO) in RUNTIMES
