"""Rewrites the generated part of ARCHITECTURE.md: one line per module, the first of its docstring.

With `--check` it changes nothing and fails where the page is out of date. Standard library only.
"""

from __future__ import annotations

import ast
import sys
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("handlers", "conductor_core", "archives", "conductor_admin", "conductor_mcp", "conductor")
BEGIN, END = "<!-- modules: written by make docs -->\n", "<!-- end of modules -->\n"


def first_line(path: Path) -> str:
    """What a module says of itself; nothing for an empty package file."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0]


def module_lines() -> str:
    """Every module that says something, by folder."""
    found = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    paths = sorted(found, key=lambda path: (PACKAGES.index(path.parts[0]), path.parent, path))
    parts = []
    for folder, modules in groupby(paths, key=lambda path: path.parent):
        told = [(path.name, line) for path in modules if (line := first_line(ROOT / path))]
        rows = "".join(f"| `{name}` | {line.replace('|', chr(92) + '|')} |\n" for name, line in told)
        parts.append(
            f"\n### `{folder.as_posix()}/`\n\n| module | what it knows |\n|---|---|\n{rows}" if told else ""
        )
    return "".join(parts) + "\n"


def main(page: Path, check: bool) -> None:
    """Bring `page` up to date, or say that it is not."""
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    wanted = head + BEGIN + module_lines() + END + rest.partition(END)[2]
    if check and wanted != text:
        raise SystemExit(f"{page.name} is out of date: make docs")
    page.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main(ROOT / "ARCHITECTURE.md", "--check" in sys.argv)
