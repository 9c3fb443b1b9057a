"""A gateway that other machines reach, as a process: its first key, its commands, its remains."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.serving import Serving, serving
from tests.torchserve_process import ROOT


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Not pytest's own folder: its name is too long for the path of a Unix socket.
    with tempfile.TemporaryDirectory(prefix="ct-") as folder:
        yield Path(folder) / "state"


def conductor(state: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "conductor.cli", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "CONDUCTOR_STATE_DIR": str(state), **environment},
    )


def test_beyond_loopback_a_key_is_needed_and_the_command_is_told(tmp_path: Path) -> None:
    refused = conductor(tmp_path, "serve", "--skip-model-loading", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 1
    assert "conductor keys create" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_broken_file_of_keys_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{}x")
    refused = conductor(tmp_path, "serve", "--skip-model-loading", "--port", "0")
    assert refused.returncode == 1
    assert "keys.json is not a key file" in refused.stderr


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Serving]:
    arguments = ("--skip-model-loading", "--host", "0.0.0.0")
    with serving(folder, *arguments, CONDUCTOR_CREATE_KEY="1") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Serving) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        yield client


def status(client: httpx2.Client, key: str | None, path: str = "/models") -> int:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return client.get(path, headers=headers).status_code


def test_the_first_key_is_in_a_file_of_its_own_and_nowhere_else(
    server: Serving, client: httpx2.Client
) -> None:
    file = server.state / "admin.key"
    key = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [status(client, None), status(client, "cdk_wrong"), status(client, key)] == [401, 401, 200]
    assert status(client, key, "/admin/keys") == 200
    said = server.log.read_text()
    assert str(file) in said
    assert key not in said
    holders = [
        path for path in server.state.rglob("*") if path.is_file() and key in path.read_text("latin-1")
    ]
    assert holders == [file]


def test_the_owners_commands_need_no_key(server: Serving) -> None:
    listed = conductor(server.state, "ps", "--all")
    assert listed.returncode == 0, listed.stderr
    assert "conversational_chat" in listed.stdout


def test_a_key_counts_from_its_making_to_its_revocation(server: Serving, client: httpx2.Client) -> None:
    key = conductor(server.state, "keys", "create", "lent").stdout.strip()
    assert status(client, key) == 200
    assert status(client, key, "/admin/keys") == 403
    assert conductor(server.state, "keys", "revoke", "lent").returncode == 0
    assert status(client, key) == 401


def test_an_open_stream_ends_with_its_key(server: Serving, client: httpx2.Client) -> None:
    """The event stream of an MCP session stays silent and open; it ends when the key is revoked."""
    key = conductor(server.state, "keys", "create", "listener").stdout.strip()
    headers = {"authorization": f"Bearer {key}", "accept": "application/json, text/event-stream"}
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    opened = client.post("/mcp", json=hello, headers=headers)
    assert opened.status_code == 200
    session = {**headers, "mcp-session-id": opened.headers.get("mcp-session-id", "")}
    client.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=session)
    with client.stream("GET", "/mcp", headers=session, timeout=20) as listening:
        assert listening.status_code == 200
        conductor(server.state, "keys", "revoke", "listener")
        with pytest.raises(httpx2.RemoteProtocolError):
            listening.read()
    assert (
        client.post("/mcp", json={"jsonrpc": "2.0", "id": 2, "method": "ping"}, headers=session).status_code
        == 401
    )


@pytest.mark.parametrize("path", ["/mcp", "/generate", "/admin/reload", "/v1/chat/completions"])
def test_pages_of_other_sites_reach_nothing_with_any_method(
    server: Serving, client: httpx2.Client, path: str
) -> None:
    key = (server.state / "admin.key").read_text().strip()
    page = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    for method in ("GET", "POST", "OPTIONS"):
        for headers, refusal in (({"host": "evil.example"}, 421), (page, 403)):
            answer = client.request(method, path, headers={"authorization": f"Bearer {key}", **headers})
            assert answer.status_code == refusal
            assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_the_audit_log_has_the_true_address(server: Serving, client: httpx2.Client) -> None:
    told = {"x-forwarded-for": "6.6.6.6", "forwarded": "for=6.6.6.6", "x-real-ip": "6.6.6.6"}
    assert client.post("/admin/reload", headers=told).status_code == 401
    last = (server.state / "logs/refusals.jsonl").read_text().splitlines()[-1]
    assert "POST /admin/reload" in last
    assert "6.6.6.6" not in last


def test_the_gateways_port_is_the_only_one_that_listens(server: Serving) -> None:
    listening = {
        connection.laddr.port
        for process in server.processes()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {int(server.url.rpartition(":")[2])}


def test_private_files_are_private(server: Serving) -> None:
    files = ("keys.json", "keys.lock", "admin.key", "logs/refusals.jsonl", "run/owner.token")
    assert {name: (server.state / name).stat().st_mode & 0o777 for name in files} == dict.fromkeys(
        files, 0o600
    )
    assert server.state.stat().st_mode & 0o777 == 0o700
