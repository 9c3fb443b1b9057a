"""`conductor keys`, and the credentials that commands send."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest

from conductor.options import gateway_of
from conductor_admin.auth.keys_file import KeysFile
from conductor_core.owner import owner_headers, write_owner_token
from conductor_core.paths import StateDir
from tests.conductor.command_line import Invoke


@pytest.fixture
def state(project: Path) -> StateDir:
    """The state folder of the project's commands."""
    return StateDir.at(project / ".conductor")


def test_a_key_is_printed_once_and_kept_as_a_hash(conductor: Invoke, state: StateDir) -> None:
    made = conductor("keys", "create", "alice", "--scope", "infer", "--scope", "admin")
    text = made.stdout.strip()
    assert text.startswith("cdk_")
    (key,) = KeysFile(state).read() or ()
    assert (key.name, key.scopes) == ("alice", ["infer", "admin"])
    kept = b"".join(path.read_bytes() for path in state.root.rglob("*") if path.is_file())
    assert text.encode() not in kept
    assert state.keys_file.stat().st_mode & 0o777 == 0o600
    assert text not in conductor("keys", "show", "alice").output + conductor("keys", "list").output


def test_rules_are_shown_and_changed(conductor: Invoke, state: StateDir) -> None:
    rules = ("--category", "Conversational Chat", "--no-load", "--tokens-per-minute", "500")
    made = json.loads(conductor("keys", "create", "alice", *rules, "--expires", "30d", "--json").stdout)
    assert (made["categories"], made["may_load"], made["tokens_per_minute"]) == (
        ["conversational_chat"],
        False,
        500,
    )
    assert 29 < (made["expires"] - made["created"]) / 86_400 < 31
    changes = ("--category", "any", "--load", "--streams", "2", "--expires", "never")
    assert conductor("keys", "set", made["id"], *changes).exit_code == 0
    shown = json.loads(conductor("keys", "show", "alice", "--json").stdout)
    changed = {"categories": None, "may_load": True, "streams": 2, "expires": None}
    assert shown == {name: value for name, value in made.items() if name != "key"} | changed
    assert [one["name"] for one in json.loads(conductor("keys", "list", "--json").stdout)["keys"]] == [
        "alice"
    ]


def test_a_revoked_key_is_gone_and_the_last_one_leaves_the_gateway_closed(
    conductor: Invoke, state: StateDir
) -> None:
    conductor("keys", "create", "alice")
    assert "no key is left" in conductor("keys", "revoke", "alice").stdout
    assert KeysFile(state).read() == ()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("create", "a/b"), "NAME"),
        (("create", "a", "--scope", "root"), "--scope"),
        (("create", "a", "--tokens-per-minute", "many"), "--tokens-per-minute"),
        (("create", "a", "--expires", "soon"), "--expires"),
        (("create", "a", "--category", "!"), "--category"),
        (("set", "a"), "nothing to change"),
        (("revoke", "nobody"), "no key 'nobody'"),
        (("show", "nobody"), "no key 'nobody'"),
    ],
)
def test_mistakes_are_one_line(conductor: Invoke, arguments: tuple[str, ...], told: str) -> None:
    result = conductor("keys", *arguments)
    assert result.exit_code in (1, 2)
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_name_is_given_once(conductor: Invoke) -> None:
    conductor("keys", "create", "alice")
    assert "already" in conductor("keys", "create", "alice").stderr


def test_a_broken_file_is_told_and_not_replaced(conductor: Invoke, state: StateDir) -> None:
    state.create()
    state.keys_file.write_text("{")
    result = conductor("keys", "create", "alice")
    assert "keys.json is not a key file" in result.stderr
    assert state.keys_file.read_text() == "{"


def test_what_was_done_to_keys_is_in_the_audit_log(conductor: Invoke, state: StateDir) -> None:
    text = conductor("keys", "create", "alice").stdout.strip()
    conductor("keys", "revoke", "alice")
    conductor("keys", "revoke", "alice")
    lines = [orjson.loads(line) for line in state.audit_file.read_bytes().splitlines()]
    assert [(line["action"], line["result"]) for line in lines] == [
        ("keys create alice", "begun"),
        ("keys create alice", "done"),
        ("keys revoke alice", "begun"),
        ("keys revoke alice", "done"),
        ("keys revoke alice", "begun"),
        ("keys revoke alice", "no key 'alice'"),
    ]
    assert text.encode() not in state.audit_file.read_bytes()
    assert state.audit_file.stat().st_mode & 0o777 == 0o600


def test_commands_show_the_owners_token_to_their_own_gateway_only(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.create()
    token = write_owner_token(state)
    assert state.owner_token.stat().st_mode & 0o777 == 0o600
    state.run_file.write_bytes(orjson.dumps({"host": "127.0.0.1", "port": 4321}))
    monkeypatch.setenv("CONDUCTOR_API_KEY", "cdk_elsewhere")
    assert owner_headers(state) == {"authorization": f"Bearer {token}"}
    with gateway_of() as own, gateway_of(host="localhost", port="4321") as named:
        assert own.headers == named.headers == owner_headers(state)
    for address in ({"port": "4322"}, {"host": "example.com", "port": "4321"}):
        with gateway_of(**address) as other:
            assert other.headers == {"authorization": "Bearer cdk_elsewhere"}


def test_the_token_is_another_one_at_each_start(state: StateDir) -> None:
    state.create()
    assert owner_headers(state) == {}
    assert write_owner_token(state) != write_owner_token(state)
