"""The database of sessions: storage, survival of a kill, and refusals at the start."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from conductor_admin.sessions.database import SCHEMA, SessionDatabaseError, default_url
from conductor_admin.sessions.models import Session, Turn, title_of
from conductor_admin.sessions.store import SessionStore
from handlers.wire import RequestError, Usage
from tests.odd_files import real_disk

ODD = "é😀\n\x00'; drop table turns; --\u2028"


def session(name: str, owner: str | None = None, updated: float = 1.0) -> Session:
    return Session(name, owner, "A title", None, "conversational_chat", 1.0, updated)


def turn(user: str = "Hi", assistant: str = "Hello") -> Turn:
    usage = Usage(prompt_tokens=2, completion_tokens=3)
    return Turn(0, user, assistant, "complete", "stop", usage, "m.gguf", "conversational_chat", 5.0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SessionStore]:
    store = SessionStore(default_url(tmp_path))
    await store.open()
    yield store
    await store.close()


async def test_turns_are_numbered_and_kept_in_order_with_every_character(store: SessionStore) -> None:
    await store.add(session("a"), turn(), is_new=True)
    await store.add(session("a", updated=9.0), turn(ODD, ODD), is_new=False)
    found = await store.find("a", None)
    assert found
    assert (found.turn_count, found.updated) == (2, 9.0)
    assert [(t.number, t.user) for t in await store.turns("a")] == [(1, "Hi"), (2, ODD)]
    assert [one.assistant for one in await store.past_turns("a")] == ["Hello", ODD]


async def test_a_session_of_another_owner_is_not_there(store: SessionStore) -> None:
    await store.add(session("a", "ada"), turn(), is_new=True)
    for owner in (None, "bob", ""):
        assert await store.find("a", owner) is None
        assert await store.newest(owner, 10, None) == []
        assert not await store.change("a", owner, {"title": "mine"})
        assert not await store.delete("a", owner)
    assert await store.find("a", "ada")


async def test_the_last_used_come_first_and_pages_follow_without_gap(store: SessionStore) -> None:
    for number in range(9):
        await store.add(session(f"s{number}", updated=float(number // 2)), turn(), is_new=True)
    seen: list[str] = []
    place = None
    while page := await store.newest(None, 2, place):
        seen += [one.id for one in page]
        place = (page[-1].updated, page[-1].id)
    assert seen == [f"s{n}" for n in (8, 7, 6, 5, 4, 3, 2, 1, 0)]


async def test_a_deleted_session_takes_its_turns_along(store: SessionStore) -> None:
    await store.add(session("a"), turn(), is_new=True)
    assert await store.delete("a", None)
    assert await store.turns("a") == []


async def test_a_turn_of_a_session_that_is_gone_is_not_kept_in_part(store: SessionStore) -> None:
    with pytest.raises(RequestError) as raised:
        await store.add(session("gone"), turn(), is_new=False)
    assert (raised.value.status, raised.value.code) == (503, "session_database_failed")
    assert "Hello" not in raised.value.message
    await store.add(session("a"), turn(), is_new=True)
    with pytest.raises(RequestError):
        await store.add(session("a"), turn(), is_new=True)
    assert len(await store.turns("a")) == 1


async def test_what_is_being_written_is_written_though_nobody_waits(store: SessionStore) -> None:
    writing = asyncio.create_task(store.add(session("a"), turn(), is_new=True))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait({writing})
    assert writing.cancelled()
    async with asyncio.timeout(5):
        while not await store.find("a", None):
            pass


async def test_a_closed_store_opens_nothing_again(store: SessionStore) -> None:
    await store.close()
    with pytest.raises(RequestError, match="closed"):
        await store.add(session("a"), turn(), is_new=True)


async def test_many_at_once_lose_nothing(store: SessionStore) -> None:
    await asyncio.gather(*(store.add(session(f"s{n}"), turn(), is_new=True) for n in range(40)))
    assert len(await store.newest(None, 100, None)) == 40


async def test_the_file_is_private_and_reopened_as_it_was(tmp_path: Path, store: SessionStore) -> None:
    await store.add(session("a"), turn(), is_new=True)
    file = tmp_path / "sessions.db"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "sessions.db-wal").stat().st_mode & 0o777 == 0o600
    again = SessionStore(default_url(tmp_path))
    await again.open()
    assert await again.find("a", None)
    await again.close()


def _foreign(file: Path) -> None:
    with sqlite3.connect(file) as made:
        made.execute("create table theirs (a)")
    made.close()


def _future(file: Path) -> None:
    with sqlite3.connect(file) as made:
        made.execute(f"pragma user_version={SCHEMA + 1}")
        made.execute("create table sessions (a)")
    made.close()


def _text(file: Path) -> None:
    file.write_text("this is no database at all\n" * 100)


def _damaged(file: Path) -> None:
    with sqlite3.connect(file) as made:
        made.execute("create table turns (a)")
        made.execute(f"pragma user_version={SCHEMA}")
        made.executemany("insert into turns values (?)", [("x" * 500,)] * 1000)
    made.close()
    with file.open("r+b") as raw:
        raw.seek(4096)
        raw.write(b"\xff" * 20_000)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_foreign, "another program"),
        (_future, f"schema {SCHEMA + 1}, this release reads schema {SCHEMA}"),
        (_text, "not a database"),
        (_damaged, "damaged|malformed"),
    ],
)
async def test_a_file_that_cannot_be_used_is_one_line_and_stays_as_it_is(
    tmp_path: Path, spoil: object, words: str
) -> None:
    file = tmp_path / "sessions.db"
    assert callable(spoil)
    spoil(file)
    before = file.read_bytes()
    with pytest.raises(SessionDatabaseError, match=words) as raised:
        await SessionStore(default_url(tmp_path)).open()
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert file.read_bytes() == before


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_full_disk_is_told_with_the_cure_that_mends_it(is_there: bool) -> None:
    with real_disk() as disk:
        if is_there:
            store = SessionStore(default_url(disk.root))
            await store.open()
            await store.close()
        disk.fill()
        with pytest.raises(SessionDatabaseError, match=f"free space in {disk.root}$") as raised:
            await SessionStore(default_url(disk.root)).open()
        assert "ove it away" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:secret@host/db",
        "sqlite+aiosqlite://",
        "sqlite:///:memory:",
        "nonsense",
        "sqlite:////no/dir/x",
    ],
)
async def test_another_kind_of_database_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(SessionDatabaseError) as raised:
        await SessionStore(url).open()
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


WRITER = """
import asyncio, os, sys
from tests.conductor_admin.test_session_store import SessionStore, session, turn

async def write():
    store = SessionStore(sys.argv[1])
    await store.open()
    number = int(sys.argv[2])
    while True:
        number += 1
        await store.add(session("a"), turn(f"u{number}", "word " * 2000), is_new=number == 1)
        print(number, flush=True)

asyncio.run(write())
"""


async def test_a_writer_that_is_killed_loses_no_turn_that_was_said_to_be_kept(tmp_path: Path) -> None:
    url, past_turns = default_url(tmp_path), 0
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, url, str(past_turns)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout
            told = [int(writer.stdout.readline()) for _ in range(20)]
            writer.kill()
            told += [int(line) for line in writer.stdout.read().splitlines()]
        store = SessionStore(url)
        await store.open()
        kept = [one.user for one in await store.turns("a")]
        await store.close()
        assert kept == [f"u{n + 1}" for n in range(len(kept))]
        # A turn whose end was not confirmed may be stored or not.
        assert len(kept) - told[-1] in (0, 1)
        past_turns = len(kept)


async def test_a_full_disk_is_an_error_that_names_no_words(store: SessionStore) -> None:
    assert store._opened
    async with store._opened.connect() as connection:
        pages = (await connection.execute(text("pragma page_count"))).scalar_one()
        await connection.execute(text(f"pragma max_page_count={pages}"))
    with pytest.raises(RequestError, match="full") as raised:
        await store.add(session("a"), turn("my secret " * 10_000), is_new=True)
    assert "secret" not in raised.value.message
    assert await store.find("a", None) is None


def test_a_title_is_the_first_words_of_the_prompt() -> None:
    assert title_of("  Why is\n the sky   blue? ") == "Why is the sky blue?"
    assert title_of("word " * 100) == "word " * 11 + "word…"
    assert title_of("x" * 100) == "x" * 60 + "…"
    assert title_of(" \n") == "(empty)"
