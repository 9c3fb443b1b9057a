"""`conductor doctor`: problems of this machine, and the commands that fix them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from conductor.doctor import Finding, findings, is_broken, to_install
from conductor.errors import CommandError
from conductor.options import operator_options, resolve
from conductor.probes import collect
from conductor.project import look
from conductor.tables import show_json

_MARKS = {"ok": ("ok     ", "green"), "warning": ("warning", "yellow"), "broken": ("broken ", "red")}


@click.command()
@operator_options("host", "port", "settings", "state_dir")
@click.option("--install", is_flag=True, help="Install missing packages with pip, at the pinned versions.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(install: bool, as_json: bool, **given: Any) -> None:
    """Check Java, packages, memory, disk, ports and accelerator; exit code 1 if something is broken."""
    settings = resolve(**given)
    found = findings(collect(settings, look(settings)))
    if install and to_install(found):
        install_packages(to_install(found))
        found = findings(collect(settings, look(settings)))
    if as_json:
        show_json({"findings": [asdict(one) for one in found]})
    else:
        for one in found:
            print_finding(one)
    sys.exit(1 if is_broken(found) else 0)


def print_finding(finding: Finding) -> None:
    """Print a finding, and below it its cure, if there is one."""
    mark, colour = _MARKS[finding.grade]
    click.echo(f"{click.style(mark, fg=colour)}  {finding.subject}: {finding.text}")
    if finding.cure is not None:
        click.echo(f"         fix it with: {finding.cure}")


def install_packages(requirements: Sequence[str]) -> None:
    """Print and run a pip command that installs pinned requirements. Raises CommandError if pip fails."""
    command = [sys.executable, "-m", "pip", "install", *requirements]
    click.echo(f"running: {' '.join(command)}", err=True)
    if subprocess.run(command, stdout=sys.stderr).returncode != 0:
        raise CommandError(f"pip failed; to install everything again: make install ({requirements[0]})")
