"""Pure decisions that have no file of their own: worker choice, percentiles, hosts."""

from __future__ import annotations

import pytest

from conductor_admin.api.rendering import sse_lines
from conductor_admin.http.listener import check_open, host_policy, url_of
from conductor_admin.http.middleware import HostPolicy
from conductor_admin.telemetry.stats import percentiles_ms
from conductor_admin.workers.client import WorkerHealth
from conductor_admin.workers.worker import health_fault, least_busy
from conductor_core.run_file import StartError
from handlers.wire import WIRE_VERSION
from tests.conductor_admin.some_workers import some_worker


def test_the_least_busy_worker_is_chosen_the_first_of_equals() -> None:
    chosen = least_busy([some_worker(1, 2), some_worker(2, 1), some_worker(3, 1)])
    assert chosen is not None
    assert chosen.pid == 2
    assert least_busy([]) is None


def test_a_worker_of_another_version_is_not_used() -> None:
    assert health_fault(WorkerHealth(wire=WIRE_VERSION, version="a"), "a") is None
    assert "version a" in (health_fault(WorkerHealth(wire=WIRE_VERSION, version="a"), "b") or "")
    assert "wire" in (health_fault(WorkerHealth(wire=WIRE_VERSION + 1, version="a"), "a") or "")


def test_percentiles_are_nearest_ranks_in_milliseconds() -> None:
    assert percentiles_ms([]) == {"p50": None, "p99": None}
    assert percentiles_ms([0.003, 0.001, 0.002]) == {"p50": 2.0, "p99": 3.0}


def test_lines_become_events_without_being_parsed() -> None:
    assert sse_lines(b'{"delta":"a"}\n{"delta":"b"}\n') == b'data: {"delta":"a"}\n\ndata: {"delta":"b"}\n\n'


def test_an_open_gateway_takes_addresses_but_no_foreign_names() -> None:
    policy = host_policy("0.0.0.0")
    assert policy.allows("192.168.1.5:8000")
    assert policy.allows("[fe80::1]:8000")
    assert not policy.allows("evil.com")
    assert not HostPolicy().allows("192.168.1.5")


def test_only_loopback_is_open_without_a_key() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        check_open(host, has_key=False)
    check_open("0.0.0.0", has_key=True)
    with pytest.raises(StartError, match="conductor keys create"):
        check_open("0.0.0.0", has_key=False)


def test_the_address_of_a_wildcard_is_loopback() -> None:
    assert url_of("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert url_of("::1", 80) == "http://[::1]:80"
