"""The most bytes that the body of a request may have: one table, by the template of the route."""

from __future__ import annotations

from collections.abc import Mapping

from handlers.wire import MAX_PROMPT_CHARS

OTHER_BYTES = 2 * 2**20
"""For every route that the table does not name."""

TEXT_BYTES = 6 * MAX_PROMPT_CHARS + 2**20
"""The longest text, each of its characters escaped as `\\uXXXX`, and what goes with it."""

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
    """The limit of the route of that template."""
    return LIMITS.get(template, OTHER_BYTES)
