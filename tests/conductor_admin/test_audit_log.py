"""The audit log: its contents, their order, and its protection."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.types import Message

from conductor_admin.app import create_app
from conductor_admin.auth import audit
from conductor_admin.auth.audit import Act, Audit, bounded, line_of
from conductor_admin.auth.journal import Journal
from conductor_admin.auth.keys import KeyBody
from conductor_admin.auth.refusal_limits import ADDRESSES, OTHERS, RefusalLimits
from conductor_admin.http.networks import network_of
from conductor_core.paths import StateDir
from tests.conductor_admin.gateway_rig import Rig
from tests.conductor_admin.key_rig import Keys, bearer
from tests.loop_steps import own_work


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def told(path: Path) -> list[tuple[Any, ...]]:
    return [(line["who"], line["action"], line["result"]) for line in lines(path)]


async def test_what_operators_do_and_are_refused_is_in_the_audit_logs(keys: Keys) -> None:
    state = keys.rig.state
    await keys.ask("POST", "/admin/models/translation/load", keys.admin)
    await keys.ask("POST", "/admin/models/translation/unload", keys.infer)
    await keys.ask("POST", "/admin/reload", None)
    await keys.ask("POST", "/admin/keys", keys.both, json={"name": "new"})
    await keys.ask("POST", "/admin/keys", keys.both, json={"name": "new"})
    await keys.ask("GET", "/admin/keys", keys.admin)
    await keys.ask("POST", "/admin/plan", keys.admin, content=b"")
    await keys.ask("GET", "/admin/models/x%0a%7b%22who%22:%22me%22%7d/load", keys.revoked)
    assert told(state.audit_file) == [
        ("admin", "POST /admin/models/translation/load", "begun"),
        ("admin", "POST /admin/models/translation/load", 200),
        ("both", "POST /admin/keys", "begun"),
        ("both", "POST /admin/keys", 201),
        ("both", "POST /admin/keys", "begun"),
        ("both", "POST /admin/keys", 409),
    ]
    assert told(state.refusals_file) == [
        ("infer", "POST /admin/models/translation/unload", 403),
        ("unknown", "POST /admin/reload", 401),
        ("unknown", 'GET /admin/models/x\n{"who":"me"}/load', 401),
    ]
    assert told(state.reads_file) == [
        ("admin", "GET /admin/keys", 200),
        ("admin", "POST /admin/plan", 400),
    ]
    done = lines(state.audit_file)
    assert done[0]["request_id"] == done[1]["request_id"]
    assert done[0]["source"] == "127.0.0.1"
    assert done[0]["key_id"].startswith("key_")
    assert done[3]["name"] == "new"
    for path in (state.audit_file, state.refusals_file, state.reads_file):
        assert all(line["request_id"] and line["time"] for line in lines(path))
        assert b"cdk_" not in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600


async def test_the_outcome_is_recorded_before_the_answer_tells_of_it(rig: Rig) -> None:
    seen: list[tuple[Any, ...]] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen.extend(told(rig.state.audit_file))

    with own_work("builds an application"):
        app = create_app(rig.gateway)
    await app(scope("POST", "/admin/reload", "127.0.0.1"), receive, send)
    assert [result for _, _, result in seen] == ["begun", 200]


def scope(method: str, path: str, source: str, text: str | None = None) -> dict[str, Any]:
    headers = [(name.encode(), value.encode()) for name, value in bearer(text).items()]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), *headers],
        "client": (source, 1),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        "http_version": "1.1",
        "root_path": "",
    }


class Flood:
    """Sends requests to the application of a rig that seem to come from any address."""

    def __init__(self, rig: Rig) -> None:
        with own_work("builds an application"):
            self._app = create_app(rig.gateway)
        self.statuses: set[int] = set()

    async def ask(self, *asked: Any) -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.statuses.add(message["status"])

        await self._app(scope(*asked), receive, send)


LONG = "/admin/keys/" + "\x01é" * 2000
WAYS: dict[str, Callable[[int], tuple[str, str, str]]] = {
    "one address": lambda n: ("GET", LONG, "127.0.0.1"),
    "thousands of addresses": lambda n: ("DELETE", LONG, f"10.0.{n // 250}.{n % 250}"),
    "an IPv6 network": lambda n: ("POST", LONG, f"2001:db8::{n:x}"),
    "odd methods": lambda n: (("HEAD", "OPTIONS", "PATCH", "BREW" * 100)[n % 4], LONG, "127.0.0.1"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_refusals_without_a_key_cost_the_log_next_to_nothing(keys: Keys, way: str) -> None:
    state, flood = keys.rig.state, Flood(keys.rig)
    await keys.ask("POST", "/admin/keys", keys.admin, json={"name": "before"})
    done = state.audit_file.read_bytes()
    count = 8000 if way == "one address" else 2000
    for number in range(count):
        await flood.ask(*WAYS[way](number))
    await keys.ask("POST", "/admin/keys", keys.infer, json={"name": "scope"})
    await asyncio.to_thread(keys.rig.gateway.audit.close)
    assert flood.statuses == {401}
    assert state.audit_file.read_bytes() == done
    assert sum(path.stat().st_size for path in state.logs.glob("*.jsonl*")) - len(done) < 100_000
    assert len(list(state.logs.glob("*.jsonl*"))) == 2
    refused = lines(state.refusals_file)
    assert [line["who"] for line in refused].count("infer") == 1, "a flood without a key hides none with one"
    assert (
        sum(line.get("more", 0) + line.get("more_before", 0) for line in refused)
        + sum(line["result"] == 401 for line in refused)
        == count
    )
    assert max(map(len, state.refusals_file.read_bytes().splitlines())) < 1000


async def test_a_key_of_too_little_scope_washes_nothing_away(keys: Keys) -> None:
    state, flood = keys.rig.state, Flood(keys.rig)
    await keys.ask("POST", "/admin/reload", keys.admin)
    await keys.ask("POST", "/admin/reload", None)
    done = state.audit_file.read_bytes()
    for _ in range(1000):
        await flood.ask("POST", LONG, "127.0.0.1", keys.infer)
    assert flood.statuses == {403}
    assert state.audit_file.read_bytes() == done
    refused = lines(state.refusals_file)
    assert len(refused) < 20
    assert refused[0]["who"] == "unknown"


def test_limits_come_back_with_time_and_tell_what_was_left_out() -> None:
    limits = RefusalLimits(burst=2, per_s=1, burst_of_all=100, of_all_per_s=1)
    assert [limits.admit("a", 0) for _ in range(5)] == [0, 0, None, None, None]
    assert limits.admit("a", 1) == 3
    assert limits.admit("a", 1) is None
    assert limits.admit("b", 1) == 0
    assert limits.take_counts() == {"a": 1}
    assert limits.take_counts() == {}


def test_no_number_of_addresses_gets_past_the_limit_of_all() -> None:
    limits = RefusalLimits()
    admitted = sum(limits.admit(f"address {n}", 0) is not None for n in range(10 * ADDRESSES))
    assert admitted == 100
    counts = limits.take_counts()
    assert sum(counts.values()) == 10 * ADDRESSES - admitted
    assert len(counts) == 6
    assert counts[OTHERS] > 0


def test_an_ipv6_host_is_one_source() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:2") != network_of("2001:db8:1::1")
    assert (network_of("127.0.0.1"), network_of("x:y"), network_of("fe80::1%eth0")) == (
        "127.0.0.1",
        "x:y",
        "fe80::/64",
    )


@pytest.mark.parametrize(
    "text", ["a" * 5000, "\x00" * 5000, "é" * 5000, "\U0001f600" * 5000, '"' * 5000, "\udcff" * 999]
)
def test_every_field_is_bounded_as_json_spells_it(text: str) -> None:
    assert len(orjson.dumps(bounded(text, 300))) <= 302
    line = line_of(
        Act(text, text, text, text, text), text, {"rules": {"categories": [text] * 50}, "name": text}
    )
    assert len(line) < 5000
    assert line.count(b"\n") == 1
    assert orjson.loads(line)["result"]


def test_a_large_log_is_set_aside_and_the_oldest_goes(state: StateDir) -> None:
    journal = Journal(state.audit_file, largest=1, kept=9)
    for number in range(12):
        journal.append(b"%d\n" % number)
    assert len(list(state.logs.glob("audit.jsonl*"))) == 10
    assert state.audit_file.read_bytes() == b"11\n"
    assert state.audit_file.with_name("audit.jsonl.9").read_bytes() == b"2\n"


def write_many(path: Path, writer: int, count: int) -> None:
    journal = Journal(path, largest=2000, kept=1000)
    for number in range(count):
        journal.append(b"%d %d\n" % (writer, number))


def test_two_processes_set_a_log_aside_without_losing_a_line(state: StateDir) -> None:
    """The gateway and the command line write at once, and both find the file too large."""
    spawn = multiprocessing.get_context("fork")
    writers = [spawn.Process(target=write_many, args=(state.audit_file, n, 1500)) for n in range(3)]
    for one in writers:
        one.start()
    for one in writers:
        one.join(60)
        assert one.exitcode == 0
    kept = [path.read_bytes().splitlines() for path in state.logs.glob("audit.jsonl*")]
    found = [tuple(map(int, line.split())) for part in kept for line in part]
    assert sorted(found) == [(writer, number) for writer in range(3) for number in range(1500)]
    assert len(kept) > 10
    older = [path.stat().st_size for path in state.logs.glob("audit.jsonl.*")]
    assert min(older) >= 2000, "none is set aside twice"
    assert max(older) < 2000 + 10, "none grows after it was set aside"


async def test_an_act_is_not_begun_where_it_cannot_be_recorded(keys: Keys) -> None:
    state = keys.rig.state
    await keys.ask("POST", "/admin/reload", keys.admin)
    state.audit_file.unlink()
    state.audit_file.mkdir()
    refused = await keys.ask("POST", "/admin/keys", keys.admin, json={"name": "never"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (507, "insufficient_storage")
    assert refused.json()["error"]["message"].startswith(
        "nothing was changed, because the audit log cannot be written: "
    )
    assert str(state.audit_file) in refused.json()["error"]["message"]
    assert "never" not in [key.name for key in keys.rig.gateway.keys.file.read() or ()]
    for method, path in (
        ("POST", "/admin/models/translation/load"),
        ("POST", "/admin/models/translation/unload"),
        ("POST", "/admin/reload"),
        ("PATCH", "/admin/keys/infer"),
    ):
        assert (await keys.ask(method, path, keys.admin, json={})).status_code == 507, path
    assert not keys.rig.torchserve.registered
    assert (await keys.ask("GET", "/admin/keys", keys.admin)).status_code == 200
    assert (await keys.ask("GET", "/admin/keys", None)).status_code == 401


async def test_a_revocation_is_done_at_once_and_recorded_once_it_can_be(keys: Keys) -> None:
    state, writer = keys.rig.state, keys.rig.gateway.audit
    state.audit_file.mkdir()
    revoked = await keys.ask("DELETE", "/admin/keys/infer", keys.admin)
    assert revoked.status_code == 200
    assert (await keys.ask("GET", "/models", keys.infer)).status_code == 401
    state.audit_file.rmdir()
    writer.tend()
    await keys.rig.until(lambda: len(lines(state.audit_file)) == 2)
    await keys.ask("POST", "/admin/reload", keys.admin)
    assert [line["result"] for line in lines(state.audit_file)] == ["begun", 200, "begun", 200]


async def test_an_act_that_is_broken_off_is_recorded_as_such(keys: Keys) -> None:
    """The key is revoked while its own load runs."""
    state, ring = keys.rig.state, keys.rig.gateway.keys
    _, text = ring.file.create(KeyBody(name="short", scopes=["admin"]))
    keys.rig.builder.may_build.clear()
    loading = asyncio.create_task(keys.ask("POST", "/admin/models/translation/load", text))
    await keys.rig.until(lambda: len(lines(state.audit_file)) == 1)
    await keys.rig.until(lambda: bool(keys.rig.lifecycle.view("translation").phase))
    assert (await keys.ask("DELETE", "/admin/keys/short", keys.admin)).status_code == 200
    assert (await loading).status_code == 401
    keys.rig.builder.may_build.set()
    results = [(line["who"], line["result"]) for line in lines(state.audit_file)]
    assert ("short", 401) in results


def test_each_kind_of_line_has_files_of_its_own(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LARGEST_OTHER_BYTES", 1)
    log = Audit(state)
    for number in range(9):
        log.refused(Act("x", f"refused {number}"), 401)
        log.was_read(Act("x", f"read {number}"), 200)
    log.begin(Act("x", "done"))
    assert len(list(state.logs.glob("refusals.jsonl*"))) == audit.KEPT_OTHER + 1
    assert len(list(state.logs.glob("reads.jsonl*"))) == audit.KEPT_OTHER + 1
    assert [line["action"] for line in lines(state.audit_file)] == ["done"]
