"""`conductor serve`: the gateway in the foreground."""

from __future__ import annotations

import sys
from typing import Any

import click

from conductor.options import EVERY, operator_options, resolve
from conductor.project import placed


@click.command()
@operator_options(*EVERY)
@click.option(
    "--skip-model-loading", is_flag=True, help="Serve every route, but without TorchServe and models."
)
@click.option("--mcp-only", is_flag=True, help="Serve only /mcp and /health.")
@click.option("--while-used", is_flag=True, hidden=True, help="Stop when the last MCP client disconnects.")
def serve(skip_model_loading: bool, mcp_only: bool, while_used: bool, **given: Any) -> None:
    """Start the gateway; Ctrl-C stops it and every process that it started."""
    settings = resolve(**given)
    # Before the server, so that an error in the table is reported in a second and nothing is started.
    placed(settings)
    from conductor.server import ServeMode
    from conductor.server import serve as serve_until_stopped

    sys.exit(serve_until_stopped(settings, ServeMode(skip_model_loading, mcp_only, while_used)))
