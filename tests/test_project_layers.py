"""Who may import whom, read from the syntax trees."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.source_tree import PACKAGES, ROOT, imports, modules

BELOW = {
    "handlers": {"handlers"},
    "conductor_core": {"handlers", "conductor_core"},
    "archives": {"handlers", "conductor_core", "archives"},
    "conductor_admin": {"handlers", "conductor_core", "archives", "conductor_admin"},
    "conductor_mcp": {"handlers", "conductor_core", "archives", "conductor_admin", "conductor_mcp"},
    "conductor": set(PACKAGES),
}
HEAVY = {
    "torch",
    "transformers",
    "openvino",
    "openvino_genai",
    "openvino_tokenizers",
    "accelerate",
    "bitsandbytes",
}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    upward = {
        f"{path}: {name}"
        for path in modules(package)
        for name in roots(path) & set(PACKAGES) - BELOW[package]
    }
    assert not upward


@pytest.mark.parametrize(
    "package", ["conductor_core", "conductor_admin", "handlers/engines", "conductor_mcp"]
)
def test_core_gateway_and_engines_import_no_inference_library(package: str) -> None:
    under = [path for path in modules() if path.is_relative_to(package)]
    assert under
    assert not {f"{path}: {name}" for path in under for name in roots(path) & HEAVY}


def test_handlers_import_absolutely() -> None:
    relative = {f"{path}: {name}" for path in modules("handlers") for name in imports(path) if name[0] == "."}
    assert not relative


def test_wire_needs_only_the_standard_library_and_pydantic() -> None:
    allowed = sys.stdlib_module_names | {"pydantic"}
    assert roots(Path("handlers/strict_shapes.py")) <= allowed
    assert roots(Path("handlers/wire.py")) <= allowed | {"handlers"}
    own = {name for name in imports(Path("handlers/wire.py")) if name.startswith("handlers")}
    assert all(name.startswith("handlers.strict_shapes") for name in own)


def test_core_takes_only_wire_and_engines_from_handlers() -> None:
    taken = {
        name for path in modules("conductor_core") for name in imports(path) if name.startswith("handlers")
    }
    assert not {name for name in taken if not name.startswith(("handlers.wire", "handlers.engines"))}


def test_no_handlers_file_has_a_standard_library_name() -> None:
    """TorchServe's worker imports a handler by its basename, where the standard library wins."""
    stems = {path.stem for path in modules("handlers")} - {"__init__"}
    assert not stems & sys.stdlib_module_names


def test_every_package_file_is_one_line_about_its_folder_but_the_front_door() -> None:
    packages = [path for path in modules() if path.name == "__init__.py" and path.parent != Path("conductor")]
    lines = {path: (ROOT / path).read_text(encoding="utf-8").splitlines() for path in packages}
    assert not {path for path, text in lines.items() if len(text) != 1 or not text[0].startswith('"""')}


def test_no_module_has_a_vague_name() -> None:
    assert not [path for path in modules() if {path.stem, *path.parts} & VAGUE]


def test_modules_stay_small_and_say_what_they_are() -> None:
    for path in modules():
        text = (ROOT / path).read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, path
        assert not text.strip() or text.startswith('"""'), path
