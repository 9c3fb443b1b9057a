"""Shares of MCP sessions: one key's flood ends only idle sessions of that key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from conductor_mcp import endpoint
from conductor_mcp.session_shares import SessionShares, opens_session
from handlers.wire import RequestError
from tests.conductor_admin.key_rig import bearer
from tests.conductor_mcp.conftest import McpRig
from tests.conductor_mcp.test_mcp_access import make_key

MOST = 3
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit the sessions of each client, so that a test can open one too many."""
    monkeypatch.setattr(endpoint, "MOST_SESSIONS", MOST)


@pytest.fixture
async def http(few: None) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=30, trust_env=False) as client:
        yield client


async def listed(rig: McpRig, http: httpx2.AsyncClient, headers: dict[str, str]) -> int:
    return (await http.post(rig.url, json=LIST, headers=headers)).status_code


@pytest.mark.parametrize("era", ["legacy"])
async def test_one_session_too_many_ends_the_keys_own_that_rests_longest(
    http: httpx2.AsyncClient, mcp_rig: McpRig
) -> None:
    flood, other = bearer(make_key(mcp_rig, "flood")), bearer(make_key(mcp_rig, "other"))
    theirs = {**await mcp_rig.session(http, **other), **other}
    first, second, *_ = [{**await mcp_rig.session(http, **flood), **flood} for _ in range(MOST)]
    assert await listed(mcp_rig, http, first) == 200
    for _ in range(5 * MOST):
        await mcp_rig.session(http, **flood)
    assert await listed(mcp_rig, http, second) == 404
    assert await listed(mcp_rig, http, theirs) == 200
    again = {**await mcp_rig.session(http, **flood), **flood}
    assert await listed(mcp_rig, http, again) == 200


@pytest.mark.parametrize("era", ["legacy"])
async def test_an_opened_session_counts_in_the_keys_minute(http: httpx2.AsyncClient, mcp_rig: McpRig) -> None:
    who = bearer(make_key(mcp_rig, "slow", requests_per_minute=2))
    for _ in range(2):
        await mcp_rig.session(http, **who)
    frame: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
    refused = await http.post(mcp_rig.url, json=frame, headers=who)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")


def test_sessions_in_use_make_no_room() -> None:
    shares = SessionShares(2)
    for name in ("a", "b"):
        shares.opened("key", name)
    with shares.in_use("key", "a"):
        assert shares.to_end("key") == ["b"]
        with shares.in_use("key", "b"), pytest.raises(RequestError, match="all of them are in use") as full:
            shares.to_end("key")
    assert full.value.status == 429
    assert shares.to_end("another") == []
    assert shares.to_end("key") == ["a"]


def test_requests_for_no_session_lose_no_count() -> None:
    shares = SessionShares(1)
    with shares.in_use("key", "unknown"):
        with shares.in_use("key", "unknown too"):
            pass
        shares.opened("key", "a")
    assert shares.to_end("key") == ["a"]


def test_sessions_that_are_being_opened_count() -> None:
    shares = SessionShares(2)
    shares.opened("key", "a")
    with shares.opening("key") as first, shares.opening("key") as second:
        assert (first.to_end, second.to_end) == ([], ["a"])
        shares.ended("key", "a")
        with pytest.raises(RequestError, match="all of them are in use"), shares.opening("key"):
            pass
        with shares.opening("another") as theirs:
            assert theirs.to_end == []
        shares.opened("key", "b", first)
        assert shares.to_end("key") == ["b"]
    assert shares.to_end("key") == []


def test_the_session_used_last_makes_room_last() -> None:
    shares = SessionShares(2)
    for name in ("a", "b"):
        shares.opened("key", name)
    with shares.in_use("key", "a"):
        pass
    assert shares.to_end("key") == ["b"]
    shares.ended("key", "b")
    assert shares.to_end("key") == []


@pytest.mark.parametrize(
    ("method", "headers", "opens"),
    [
        ("POST", {}, True),
        ("POST", {"mcp-protocol-version": "2025-06-18"}, True),
        ("POST", {"mcp-protocol-version": "2026-07-28"}, False),
        ("GET", {}, False),
        ("DELETE", {}, False),
    ],
)
def test_only_the_handshakes_era_keeps_sessions(method: str, headers: dict[str, str], opens: bool) -> None:
    assert opens_session(method, headers) is opens
