"""The database of sessions: its tables, its opening, and the checks at the start.

A SQLite file through SQLAlchemy. A file that is damaged, foreign or of another schema is never changed.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    event,
    inspect,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from conductor_core.files import DISK_FULL, fault

SCHEMA = 1
"""`user_version` of the files that this code reads and writes."""

_BUSY_MS = 5000
_LEAST_BYTES = 128 * 2**10
_DISK_CODES = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
)
_OURS = "sqlite+aiosqlite"

metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String),
    Column("title", Text, nullable=False),
    Column("persona", Text),
    Column("category", String, nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Index("sessions_newest", "owner", "updated", "id"),
)

turns = Table(
    "turns",
    metadata,
    Column("session_id", ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("user", Text, nullable=False),
    Column("assistant", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("finish_reason", String, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("category", String, nullable=False),
    Column("created", Float, nullable=False),
)


class SessionDatabaseError(Exception):
    """The database cannot be used; the message is one line with file, cause and cure."""


def default_url(state_folder: Path) -> str:
    """URL of the default database in the state folder."""
    return URL.create(_OURS, database=str(state_folder / "sessions.db")).render_as_string()


async def open_database(url: str) -> AsyncEngine:
    """Open the database, checked or newly made, with this schema. Raises SessionDatabaseError.

    The engine has one connection, so that it never waits for a second writer.
    """
    place = _place(url)
    name = str(place.database)
    try:
        # Before SQLite creates it, which would let other users of this machine read the conversations.
        file = os.open(name, os.O_CREAT | os.O_RDWR | os.O_NONBLOCK, 0o600)
        is_file = stat.S_ISREG(os.fstat(file).st_mode)
        os.close(file)
    except OSError as error:
        is_full = error.errno in DISK_FULL
        raise (_full(name) if is_full else _refused(name, error.strerror or str(error))) from error
    if not is_file:
        raise _refused(name, "not a regular file")
    engine = create_async_engine(place, pool_size=1, max_overflow=0)
    event.listen(engine.sync_engine, "connect", _connected)
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_prepare, name)
        async with engine.connect() as connection:
            await connection.run_sync(_write_ahead)
    except SQLAlchemyError as error:
        await engine.dispose()
        is_full = is_fault_of_disk(error) and _has_no_room(name)
        raise (_full(name) if is_full else _refused(name, reason_of(error))) from error
    except SessionDatabaseError:
        await engine.dispose()
        raise
    return engine


def reason_of(error: SQLAlchemyError) -> str:
    """SQLite's own message in one line, without the statement, which contains text of users."""
    cause = getattr(error, "orig", None)
    return str(cause or type(error).__name__).splitlines()[0]


def is_fault_of_disk(error: SQLAlchemyError) -> bool:
    """True if the disk is full, read-only or broken, and not the database."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in _DISK_CODES


def _has_no_room(name: str) -> bool:
    """True if the disk lacks space for SQLite's own two files, which SQLite reports as an I/O error."""
    disk = os.statvfs(Path(name).parent)
    return disk.f_bavail * disk.f_frsize < _LEAST_BYTES


def _place(url: str) -> URL:
    try:
        place = make_url(url)
    except ArgumentError as error:
        raise SessionDatabaseError("DATABASE_URL: expected sqlite+aiosqlite:///<file>") from error
    if place.drivername not in ("sqlite", _OURS) or place.database in (None, "", ":memory:"):
        raise SessionDatabaseError(
            f"DATABASE_URL: expected {_OURS}:///<file>, got {place.render_as_string(hide_password=True)}"
        )
    return place.set(drivername=_OURS)


def _connected(connection: Any, _: object) -> None:
    # The driver begins transactions before some statements only; we send BEGIN ourselves, for tables too.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={_BUSY_MS}", "foreign_keys=ON", "synchronous=FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _prepare(connection: Connection, name: str) -> None:
    """Check the file, and make the tables of an empty one."""
    version = connection.execute(text("PRAGMA user_version")).scalar_one()
    found = set(inspect(connection).get_table_names())
    if version not in (0, SCHEMA):
        raise _refused(name, f"it has schema {version}, this release reads schema {SCHEMA}")
    if version == 0 and found:
        raise _refused(name, "it is the database of another program")
    fault = connection.execute(text("PRAGMA quick_check(1)")).scalar_one()
    if fault != "ok":
        raise _refused(name, f"it is damaged: {str(fault).splitlines()[0]}")
    metadata.create_all(connection)
    # Written at every start, so that a file that cannot be written is known now.
    connection.execute(text(f"PRAGMA user_version={SCHEMA}"))


def _write_ahead(connection: Connection) -> None:
    connection.rollback()
    driver = connection.connection.cursor()
    driver.execute("PRAGMA journal_mode=WAL")
    driver.close()


def _full(name: str) -> SessionDatabaseError:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
    return SessionDatabaseError(f"the session database cannot be opened: {fault(full)}")


def _refused(name: str, reason: str) -> SessionDatabaseError:
    return SessionDatabaseError(
        f"the session database {name} cannot be used: {reason}; it was left as it is. Move it away, "
        "or choose another one with CONDUCTOR_DATABASE_URL"
    )
