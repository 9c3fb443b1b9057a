"""Allowed imports between packages and folders, checked by syntax trees."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
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
HANDLERS_BELOW = {
    "checks": set(),
    "diagnostics": set(),
    "tool_calls": set(),
    "runtimes": {"diagnostics"},
    "engines": {"checks"},
    "sandbox": {"diagnostics", "engines"},
    "inference": {"engines", "runtimes", "sandbox", "tool_calls"},
    "worker": {"diagnostics", "runtimes"},
}
"""Folders of `handlers` with the folders that each may import; all may import the modules beside them."""
MCP_BELOW: dict[str, set[str]] = {"client": set(), "tools": set()}
"""Folders of `conductor_mcp`: clients know the server only by its protocol."""
ADMIN_BELOW: dict[str, set[str]] = {
    "app": {"api", "auth", "gateway", "http", "sessions"},
    "api": {
        "auth",
        "auto",
        "dispatcher",
        "gateway",
        "http",
        "lifecycle",
        "memory",
        "planner",
        "sessions",
        "settings",
        "telemetry",
    },
    "gateway": {
        "auth",
        "auto",
        "dispatcher",
        "http",
        "lifecycle",
        "planner",
        "sessions",
        "settings",
        "telemetry",
    },
    "dispatcher": {"auth", "lifecycle", "planner", "sessions", "telemetry", "workers"},
    "sessions": {"auth", "lifecycle", "planner"},
    "telemetry": {"auth", "http", "lifecycle", "planner"},
    "planner": {"auth"},
    "lifecycle": {"memory", "settings", "workers"},
    "settings": {"memory"},
    "workers": {"memory"},
    "auth": {"http"},
    "auto": set(),
    "http": set(),
    "memory": set(),
}
"""Folders and modules of `conductor_admin` with those that each may import."""
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


def folders_of(path: Path, package: str, layers: Mapping[str, set[str]]) -> set[str]:
    """The layers of its own package that a module imports anywhere in it."""
    names = [name.split(".") for name in imports(path)]
    return {name[1] for name in names if name[0] == package and len(name) > 1 and name[1] in layers}


def upward(package: str, layer: str, below: Mapping[str, set[str]]) -> set[str]:
    """Imports of a layer (a folder or module of `package`) that are not of the layers below it."""
    own = [path for path in modules(package) if Path(*path.parts[:2]).with_suffix("").name == layer]
    assert own
    found = {path: folders_of(path, package, below) - below[layer] - {layer} for path in own}
    return {f"{path}: {name}" for path, names in found.items() for name in names}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    upward = {
        f"{path}: {name}"
        for path in modules(package)
        for name in roots(path) & set(PACKAGES) - BELOW[package]
    }
    assert not upward


@pytest.mark.parametrize("folder", HANDLERS_BELOW)
def test_imports_inside_handlers_point_one_way(folder: str) -> None:
    assert not upward("handlers", folder, HANDLERS_BELOW)


@pytest.mark.parametrize("folder", MCP_BELOW)
def test_tools_and_clients_of_mcp_do_not_know_each_other(folder: str) -> None:
    assert not upward("conductor_mcp", folder, MCP_BELOW)


@pytest.mark.parametrize("layer", ADMIN_BELOW)
def test_imports_inside_the_gateway_point_one_way(layer: str) -> None:
    assert not upward("conductor_admin", layer, ADMIN_BELOW)


def test_what_all_interfaces_share_knows_none_of_them() -> None:
    shared = [path for path in modules("conductor_admin") if path.parent == Path("conductor_admin/api")]
    assert shared
    of_one = ("conductor_admin.api.native", "conductor_admin.api.openai")
    assert not {f"{path}: {name}" for path in shared for name in imports(path) if name.startswith(of_one)}


def test_no_module_is_outside_the_layers() -> None:
    """The modules beside the folders are shared types and parsers, and the handler that TorchServe loads."""
    beside = [path for path in modules("handlers") if path.parent == Path("handlers")]
    free = {path: folders_of(path, "handlers", HANDLERS_BELOW) for path in beside}
    assert free.pop(Path("handlers/engine_handler.py")) == {"diagnostics", "inference", "worker"}
    assert free.pop(Path("handlers/worker_config.py")) == {"runtimes"}
    assert not [path for path, folders in free.items() if folders]
    parts = {Path(path.parts[1]).stem for path in modules("conductor_admin")} - {"__init__"}
    assert parts == ADMIN_BELOW.keys()


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
    assert roots(Path("handlers/wire.py")) <= sys.stdlib_module_names | {"pydantic"}


def test_core_takes_only_wire_and_engines_from_handlers() -> None:
    taken = {
        name for path in modules("conductor_core") for name in imports(path) if name.startswith("handlers")
    }
    assert not {name for name in taken if not name.startswith(("handlers.wire", "handlers.engines"))}


def test_no_handlers_file_has_a_standard_library_name() -> None:
    """TorchServe's worker imports a handler by its basename, and the standard library would come first."""
    stems = {path.stem for path in modules("handlers")} - {"__init__"}
    assert not stems & sys.stdlib_module_names


def test_every_package_file_is_one_line_about_its_folder_but_the_front_door() -> None:
    packages = [path for path in modules() if path.name == "__init__.py" and path.parent != Path("conductor")]
    lines = {path: (ROOT / path).read_text(encoding="utf-8").splitlines() for path in packages}
    assert not {path for path, text in lines.items() if len(text) != 1 or not text[0].startswith('"""')}


def test_no_folder_is_a_corridor() -> None:
    doors = Counter(path.parent for path in modules() if path.name != "__init__.py")
    assert not {folder: count for folder, count in doors.items() if count > 24}


def test_no_module_has_a_vague_name() -> None:
    assert not [path for path in modules() if {path.stem, *path.parts} & VAGUE]


def test_modules_stay_small_and_say_what_they_are() -> None:
    for path in modules():
        text = (ROOT / path).read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, path
        assert not text.strip() or text.startswith('"""'), path


QUESTION_WORDS = re.compile(r"(?:what|who|whose|which|whether|where|how)\b", re.IGNORECASE)


def described(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring of a module, class, function, constant or field."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for step in node.body:
                if isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant):
                    yield step.lineno, str(step.value.value).strip()


def test_docstrings_begin_with_a_noun_or_a_verb() -> None:
    opening = [
        f"{path}:{line}"
        for path in modules(*PACKAGES, "tests", ".ci", "examples", "deploy")
        for line, text in described(path)
        if QUESTION_WORDS.match(text)
    ]
    assert not opening
