"""The command line: one click group. Every command has a module of its own below `conductor.commands`."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from typing import Any

import click

from conductor.commands.bench import bench
from conductor.commands.build import build, pull
from conductor.commands.doctor import doctor
from conductor.commands.keys import keys
from conductor.commands.mcp import mcp
from conductor.commands.models import list_rows, show
from conductor.commands.plan import plan
from conductor.commands.processes import load, ps, unload
from conductor.commands.requests import requests
from conductor.commands.run import run
from conductor.commands.serve import serve
from conductor.commands.sessions import sessions
from conductor.errors import plain_faults


class _Commands(click.Group):
    """The group of commands; errors of files and disks become one line, as every other failure."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        with plain_faults():
            try:
                return super().invoke(ctx)
            finally:
                # Flushed here, where a failure can still be reported.
                try:
                    sys.stdout.flush()
                except OSError:
                    # Else Python would try to write the rest at its end, and fail with a traceback.
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nowhere, sys.stdout.fileno())
                    os.close(nowhere)
                    raise


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("conductor"), prog_name="conductor")
def main() -> None:
    """Run an LLM server that is configured by one Markdown table.

    Options have a CONDUCTOR_ variable of the same name, e.g. CONDUCTOR_PORT for --port.
    """


_COMMANDS = (
    bench,
    build,
    doctor,
    keys,
    list_rows,
    load,
    mcp,
    plan,
    ps,
    pull,
    requests,
    run,
    serve,
    sessions,
    show,
    unload,
)

for _command in _COMMANDS:
    main.add_command(_command)

if __name__ == "__main__":
    main()
