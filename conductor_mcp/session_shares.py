"""Sessions of the MCP protocol by client: how many one may have, and which of its own make room for another.

Knows session ids and clients, not the SDK that keeps the sessions. One that the SDK has forgotten meanwhile
stays here until its client needs its room.
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
    """Tell whether a request without a session's id opens a session: one of the handshake's era does."""
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
        """Requests in progress of each session, by client, the session that was used last at the end."""
        self._opening: defaultdict[str, list[Opening]] = defaultdict(list)

    def opened(self, client: str, session_id: str, opening: Opening | None = None) -> None:
        """Count a session that the client has opened, in the place that was kept for it."""
        self._used[client][session_id] = 0
        if opening is not None:
            self._no_more(opening)

    def ended(self, client: str, session_id: str) -> None:
        """Count a session no more."""
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
            # What another request has put in the place of an empty account meanwhile is not this one's.
            if not sessions and self._used.get(client) is sessions:
                del self._used[client]

    @contextmanager
    def opening(self, client: str) -> Iterator[Opening]:
        """The place of one more session, kept until it is `opened` or the block ends; raises as `to_end`.

        It counts from here on: many that open at once would else all be given the same place.
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
        """The sessions that have to end before the client opens another: its own that rest longest.

        Raises RequestError 429 where all of them are in use.
        """
        sessions = self._used.get(client, OrderedDict[str, int]())
        excess = len(sessions) + len(self._opening.get(client, ())) - self._most + 1
        if excess <= 0:
            return []
        idle = [session_id for session_id, requests in sessions.items() if not requests]
        if len(idle) < excess:
            raise RequestError(
                f"this key has {self._most} sessions open, and all of them are in use",
                status=429,
                type="rate_limit_error",
                code="share_exceeded",
                retry_after_s=1,
            )
        return idle[:excess]
