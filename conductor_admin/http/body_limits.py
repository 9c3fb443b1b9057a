"""Limits of request bodies in bytes: one table, by the template of the route."""

from __future__ import annotations

from collections.abc import Mapping

from handlers.wire import MAX_PROMPT_CHARS

OTHER_BYTES = 2 * 2**20
"""Limit of every route that the table does not name."""

TEXT_BYTES = 6 * MAX_PROMPT_CHARS + 2**20
"""The longest text with every character escaped as `\\uXXXX`, and 1 MiB for the rest."""

UNESCAPED_BYTES = 4 * MAX_PROMPT_CHARS + 2**20
"""The longest text in UTF-8; the SDK behind `/mcp` parses on the event loop, at 50 ms for 20 MB."""

LIMITS: Mapping[str, int] = {
    "/generate": TEXT_BYTES,
    "/generate/stream": TEXT_BYTES,
    "/check": TEXT_BYTES,
    "/predictions/{category}": TEXT_BYTES,
    "/predictions/{category}/{version}": TEXT_BYTES,
    "/predictions/{category}/{version}/{engine}": TEXT_BYTES,
    "/v1/chat/completions": TEXT_BYTES,
    "/v1/completions": TEXT_BYTES,
    "/v1/embeddings": TEXT_BYTES,
    "/v1/responses": TEXT_BYTES,
    "/mcp": UNESCAPED_BYTES,
    "/mcp/": UNESCAPED_BYTES,
}


def limit_of(template: str) -> int:
    """Limit in bytes of the route with that template."""
    return LIMITS.get(template, OTHER_BYTES)
