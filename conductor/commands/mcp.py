"""`conductor mcp`: MCP on standard input and output, for clients that start their servers themselves."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from conductor.errors import CommandError
from conductor.options import FILES, operator_options, resolve


@click.command()
@operator_options(*FILES)
def mcp(**given: Any) -> None:
    """Serve MCP on standard input and output.

    Uses the gateway of the state folder, or starts one. Any number of clients may run at once; a gateway that
    was started this way ends with the last of them.
    """
    settings = resolve(**given)
    from conductor_mcp.client.shared_gateway import GatewayError
    from conductor_mcp.client.stdio import serve_stdio

    try:
        asyncio.run(serve_stdio(settings))
    except GatewayError as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        return
