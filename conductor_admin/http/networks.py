"""Networks of clients: the part of an address for which one client may stand."""

from __future__ import annotations

import ipaddress


def network_of(source: str) -> str:
    """The source that is counted: for IPv6 the /64 network, because one host may use all of it."""
    if ":" not in source:
        return source
    try:
        return str(ipaddress.ip_network((source.partition("%")[0], 64), strict=False))
    except ValueError:
        return source
