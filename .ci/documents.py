"""Rewrites the generated part of ARCHITECTURE.md: one line per folder, the docstring of its `__init__.py`.

With `--check` it changes nothing and fails where the page is out of date. Standard library only.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("handlers", "conductor_core", "archives", "conductor_admin", "conductor_mcp", "conductor")
BEGIN, END = "<!-- folders: written by make docs -->\n", "<!-- end of folders -->\n"


def first_line(path: Path) -> str:
    """The first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0]


def folder_lines() -> str:
    """A list of all folders, those that are imported by others first."""
    found = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    paths = sorted(found, key=lambda path: (PACKAGES.index(path.parts[0]), path.parent))
    lines = (f"- `{path.parent.as_posix()}/` {first_line(ROOT / path)}\n" for path in paths)
    return "\n" + "".join(lines) + "\n"


def main(page: Path, check: bool) -> None:
    """Bring `page` up to date, or say that it is not."""
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    wanted = head + BEGIN + folder_lines() + END + rest.partition(END)[2]
    if check and wanted != text:
        raise SystemExit(f"{page.name} is out of date: make docs")
    page.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main(ROOT / "ARCHITECTURE.md", "--check" in sys.argv)
