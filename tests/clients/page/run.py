"""Runs the tests of the page's own JavaScript, the modules that need no browser, with Node's test runner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

sys.path.insert(0, str(HERE.parents[2]))

from tests.clients.mcp.run import PLACE, node_folder  # noqa: E402


def main() -> int:
    """Run every test file; the exit status is Node's."""
    PLACE.mkdir(parents=True, exist_ok=True)
    # The page's modules are plain files for browsers: no package.json tells Node that they are modules.
    command = [str(node_folder() / "bin/node"), "--disable-warning=MODULE_TYPELESS_PACKAGE_JSON", "--test"]
    tests = sorted(HERE.glob("*.test.js"))
    return subprocess.run([*command, *tests], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
