"""A separate environment for each client below `.clients/`, made again if its pins have changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PINS, SCRIPTS = HERE / "pins", HERE / "scripts"
PLACE = HERE.parents[2] / ".clients"
MADE = ".made"
"""File with the pins of an environment that is complete."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client: its file of `pins`, its `script`, and the `package` whose version is shown."""

    package: str
    pins: str
    script: str

    @property
    def folder(self) -> Path:
        return PLACE / Path(self.pins).stem

    @property
    def is_node(self) -> bool:
        return self.pins.endswith(".json")


def install(client: Client, node: Path) -> str:
    """Make the environment if needed; return the client's version in it."""
    made, wanted = client.folder / MADE, (PINS / client.pins).read_text(encoding="utf-8")
    if not made.exists() or made.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(client.folder, ignore_errors=True)
        (_install_node if client.is_node else _install_python)(client, node)
        made.write_text(wanted, encoding="utf-8")
    return _version(client, node)


def command(client: Client, node: Path) -> list[str]:
    """Command that runs the client's script."""
    runner = node / "bin/node" if client.is_node else client.folder / "bin/python"
    return [str(runner), str(SCRIPTS / client.script)]


def _install_python(client: Client, node: Path) -> None:
    venv.create(client.folder, with_pip=True)
    pip = [str(client.folder / "bin/python"), "-m", "pip", "install", "-qq"]
    pins = (PINS / client.pins).read_text(encoding="utf-8").split()
    # Not every index has a CPU build, and a search of all of them would find a build for GPUs.
    for torch in (pin for pin in pins if pin.startswith("torch==")):
        if subprocess.run([*pip, torch], check=False).returncode:
            subprocess.run([*pip, torch, "--index-url", os.environ["TORCH_INDEX"]], check=True)
    subprocess.run([*pip, "-r", str(PINS / client.pins)], check=True)


def _install_node(client: Client, node: Path) -> None:
    client.folder.mkdir(parents=True)
    shutil.copy(PINS / client.pins, client.folder / "package.json")
    npm = [str(node / "bin/node"), str(node / "lib/node_modules/npm/bin/npm-cli.js"), "install"]
    environment = {**os.environ, "PATH": f"{node / 'bin'}:{os.environ['PATH']}"}
    flags = ["--no-audit", "--no-fund", "--no-package-lock"]
    subprocess.run([*npm, *flags], cwd=client.folder, env=environment, check=True)


def _version(client: Client, node: Path) -> str:
    if client.is_node:
        ask = [
            str(node / "bin/node"),
            "-p",
            f"require('./node_modules/{client.package}/package.json').version",
        ]
    else:
        code = f"from importlib.metadata import version; print(version({client.package!r}))"
        ask = [str(client.folder / "bin/python"), "-c", code]
    return subprocess.run(ask, cwd=client.folder, capture_output=True, text=True, check=True).stdout.strip()
