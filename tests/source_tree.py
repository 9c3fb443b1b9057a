"""Reads the repository for its tests: files as they are, modules by syntax tree; nothing is imported."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("handlers", "conductor_core", "archives", "conductor_admin", "conductor_mcp", "conductor")


@cache
def project_files() -> tuple[Path, ...]:
    """All files that .gitignore does not exclude, as paths relative to the root; needs no git."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    patterns = [pattern.rstrip("/") for pattern in (".git/", *ignored)]

    def kept(path: Path) -> bool:
        return not any(fnmatch(path.name, one) or fnmatch(path.as_posix(), one) for one in patterns)

    found = []
    for folder, folders, names in os.walk(ROOT):
        inside = Path(folder).relative_to(ROOT)
        folders[:] = [name for name in folders if kept(inside / name)]
        found += [inside / name for name in names if kept(inside / name)]
    return tuple(sorted(found))


def texts() -> Iterator[tuple[Path, str]]:
    """All text files of the project with their content."""
    for path in project_files():
        content = (ROOT / path).read_bytes()
        if b"\0" not in content:
            yield path, content.decode()


def modules(*packages: str) -> list[Path]:
    """Python files of the named packages, by default of all packages of the project."""
    return [
        path for path in project_files() if path.suffix == ".py" and path.parts[0] in (packages or PACKAGES)
    ]


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a module imports anywhere in it; a relative import begins with a dot."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def test_functions() -> Iterator[str]:
    """Node ids of all test functions, `tests/x/test_y.py::test_z`, without collecting them."""
    for path in project_files():
        if path.parts[0] == "tests" and path.name.startswith("test_"):
            for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    yield f"{path.as_posix()}::{node.name}"
