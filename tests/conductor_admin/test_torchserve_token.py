"""TorchServe's keys: read at each start, sent with each call, renewed in time and after a refusal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conductor_admin.workers.torchserve_client import TorchServe, TorchServeError
from conductor_admin.workers.torchserve_token import TokenError, TorchServeKeys, read_keys
from conductor_core.paths import StateDir
from tests.conductor_admin.fake_torchserve import FakeTorchServe

LIFETIME_S = 3600.0
GOOD = (
    '{"management": {"key": "m", "expiration time": "2026-01-01T00:00:09.123456789Z"},'
    ' "inference": {"key": "i", "expiration time": "2026-01-01T00:00:00Z"}, "API": {"key": "a"}}'
)
WRONG = [
    "",
    "{",
    "[]",
    "null",
    GOOD[:-40],
    GOOD.replace('"m"', "null"),
    GOOD.replace('"a"', '""'),
    GOOD.replace("00Z", "never"),
    GOOD.replace("API", "api"),
    "[" * 5000,
]


class Clock:
    """`time.time` that is ahead of the machine's by an offset that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = time.time
        self.ahead = 0.0
        monkeypatch.setattr(time, "time", lambda: real() + self.ahead)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
async def server(state: StateDir, clock: Clock) -> AsyncIterator[FakeTorchServe]:
    made = FakeTorchServe(state)
    made.lifetime_s = LIFETIME_S
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def client(state: StateDir) -> TorchServe:
    return TorchServe(
        state.management_socket,
        state.inference_socket,
        state.torchserve_keys,
        lifetime_min=LIFETIME_S / 60,
    )


async def call(client: TorchServe) -> None:
    """A call of each API."""
    assert await client.ping()
    await client.unregister("nothing", "1")


def test_the_keys_of_a_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "key_file.json"
    file.write_text(GOOD)
    assert read_keys(file) == TorchServeKeys("m", "i", "a", 1767225600.0)


@pytest.mark.parametrize("text", WRONG)
def test_a_file_that_is_missing_or_half_written_is_named_and_not_shown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key_file.json"
    with pytest.raises(TokenError, match=r"key_file\.json cannot be read"):
        read_keys(file)
    file.write_text(text)
    with pytest.raises(TokenError) as caught:
        read_keys(file)
    assert str(caught.value) == "key_file.json is not a key file"


def test_keys_do_not_show_in_a_text() -> None:
    assert "secret" not in f"{TorchServeKeys('secret', 'secret', 'secret', 1.0)!r}"


@pytest.mark.parametrize(("left_s", "is_due"), [(1900, False), (1700, True), (0, True), (-1e6, True)])
def test_new_keys_are_due_at_half_of_the_lifetime(left_s: float, is_due: bool) -> None:
    assert TorchServeKeys("m", "i", "a", 1e9).is_due(1e9 - left_s, LIFETIME_S / 60) is is_due


async def test_a_key_is_renewed_before_it_expires(
    server: FakeTorchServe, client: TorchServe, clock: Clock
) -> None:
    await call(client)
    await client.renew_when_due()
    assert server.bought == []
    clock.ahead = LIFETIME_S * 0.6
    await client.renew_when_due()
    assert server.bought == ["management", "inference"]
    clock.ahead = LIFETIME_S * 1.2
    await call(client)
    assert server.bought == ["management", "inference"]


@pytest.mark.parametrize("jump", [1e9, LIFETIME_S + 1])
async def test_calls_with_expired_keys_buy_new_ones_once_and_are_answered(
    server: FakeTorchServe, client: TorchServe, clock: Clock, jump: float
) -> None:
    await call(client)
    clock.ahead = jump
    await asyncio.gather(*(call(client) for _ in range(20)))
    assert server.bought == ["management", "inference"]


async def test_a_torchserve_that_was_started_anew_is_called_with_its_new_keys(
    server: FakeTorchServe, client: TorchServe
) -> None:
    await call(client)
    await server.stop()
    await server.start()
    await call(client)
    assert server.bought == []


async def test_keys_that_a_full_disk_lost_are_bought_again(
    server: FakeTorchServe, client: TorchServe, clock: Clock
) -> None:
    await call(client)
    clock.ahead = LIFETIME_S * 0.6
    server.disk_full = True
    for _ in range(2):
        with pytest.raises(TorchServeError):
            await client.renew_when_due()
    server.disk_full = False
    await call(client)
    assert server.bought[-2:] == ["management", "inference"]


async def test_another_key_than_that_of_the_api_is_refused_and_the_refusal_names_no_key(
    server: FakeTorchServe, client: TorchServe
) -> None:
    await call(client)
    keys = read_keys(server.state.torchserve_keys)
    with pytest.raises(TorchServeError) as refused:
        await client._send("GET", "/ping", "inference", TorchServeKeys("no", keys.management, "no", 0))
    assert refused.value.kind == "InvalidKeyException"
    assert keys.management not in str(refused.value)


async def test_without_a_key_file_there_is_no_call(client: TorchServe) -> None:
    with pytest.raises(TorchServeError, match="key_file") as missing:
        await client.unregister("nothing", "1")
    assert missing.value.status == 0
    assert not await client.ping()
