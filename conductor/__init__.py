"""The command line, the composition of a gateway, and the front door `from conductor import ConductorServer`.

The modules behind the front door are imported at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conductor_mcp.client.embedded import ConductorServer

__all__ = ["ConductorServer"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from conductor_mcp.client.embedded import ConductorServer

        return ConductorServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
