"""Sessions of the MCP protocol by client: a limit for each, and the idle sessions that end for a new one.

Knows session ids and clients, not the SDK that keeps the sessions. A session that the SDK has dropped stays
counted until its client needs its place.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from handlers.wire import RequestError


def opens_session(method: str, headers: Mapping[str, str]) -> bool:
    """True if a request without a session id opens a session, as one of the handshake era does."""
    version = headers.get(MCP_PROTOCOL_VERSION_HEADER)
    return method == "POST" and (version is None or version in HANDSHAKE_PROTOCOL_VERSIONS)


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """A session that is being opened; `to_end` are the client's sessions that have to end for it."""

    client: str
    to_end: list[str]


class SessionShares:
    """At most `most` open sessions for each client."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used: defaultdict[str, OrderedDict[str, int]] = defaultdict(OrderedDict)
        """Number of running requests of each session by client; the last used session is last."""
        self._opening: defaultdict[str, list[Opening]] = defaultdict(list)

    def opened(self, client: str, session_id: str, opening: Opening | None = None) -> None:
        """Count a session that the client has opened, instead of its reserved place."""
        self._used[client][session_id] = 0
        if opening is not None:
            self._no_more(opening)

    def ended(self, client: str, session_id: str) -> None:
        """Stop counting a session."""
        self._used[client].pop(session_id, None)
        if not self._used[client]:
            del self._used[client]

    @contextmanager
    def in_use(self, client: str, session_id: str) -> Iterator[None]:
        """Keep the session from making room for others during the block."""
        sessions = self._used[client]
        if session_id in sessions:
            sessions[session_id] += 1
            sessions.move_to_end(session_id)
        try:
            yield
        finally:
            if session_id in sessions:
                sessions[session_id] -= 1
            # Another request may have replaced the empty entry meanwhile: that one must stay.
            if not sessions and self._used.get(client) is sessions:
                del self._used[client]

    @contextmanager
    def opening(self, client: str) -> Iterator[Opening]:
        """Reserve a place for one more session until it is `opened` or the block ends; raises as `to_end`.

        The place counts at once, so that sessions opened at the same time do not share it.
        """
        opening = Opening(client, self.to_end(client))
        self._opening[client].append(opening)
        try:
            yield opening
        finally:
            self._no_more(opening)

    def _no_more(self, opening: Opening) -> None:
        of_client = self._opening.get(opening.client, [])
        if opening in of_client:
            of_client.remove(opening)
            if not of_client:
                del self._opening[opening.client]

    def to_end(self, client: str) -> list[str]:
        """Sessions that have to end before the client opens another: its own longest idle ones.

        Raises RequestError 429 if too many of them are in use.
        """
        sessions = self._used.get(client, OrderedDict[str, int]())
        excess = len(sessions) + len(self._opening.get(client, ())) - self._most + 1
        if excess <= 0:
            return []
        idle = [session_id for session_id, requests in sessions.items() if not requests]
        if len(idle) < excess:
            raise RequestError(
                f"this key has {self._most} open sessions, and all of them are in use",
                status=429,
                type="rate_limit_error",
                code="share_exceeded",
                retry_after_s=1,
            )
        return idle[:excess]
