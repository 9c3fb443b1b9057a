"""Store of sessions in the database: reads, lists, renames and deletes them, adds turns in transactions.

Knows rows and owners, not busy sessions or models. For an owner, sessions of other owners do not exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import structlog
from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from conductor_admin.sessions.database import is_fault_of_disk, open_database, reason_of, sessions, turns
from conductor_admin.sessions.models import PastTurn, Session, Turn
from handlers.wire import RequestError, Usage

log = structlog.get_logger()

T = TypeVar("T")

_COUNT = (
    select(func.count())
    .select_from(turns)
    .where(turns.c.session_id == sessions.c.id)
    .scalar_subquery()
    .label("turn_count")
)


class SessionStore:
    """The sessions of one database; call `open` before use and `close` at the end."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: AsyncEngine | None = None
        self._running: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Open the database. Raises SessionDatabaseError if it cannot be used."""
        self._opened = await open_database(self._url)

    async def close(self) -> None:
        """Wait for running transactions, then close the database."""
        if self._running:
            await asyncio.wait(self._running)
        if self._opened is not None:
            opened, self._opened = self._opened, None
            await opened.dispose()

    async def find(self, session_id: str, owner: str | None) -> Session | None:
        """The session without its turns; None if there is none of this owner."""

        async def read(connection: AsyncConnection) -> Session | None:
            found = await connection.execute(select(sessions, _COUNT).where(_is(session_id, owner)))
            row = found.one_or_none()
            return _session(row) if row else None

        return await self._run(read)

    async def turns(self, session_id: str) -> list[Turn]:
        """Every turn of a session that was found, the oldest first."""

        async def read(connection: AsyncConnection) -> list[Turn]:
            wanted = select(turns).where(turns.c.session_id == session_id).order_by(turns.c.number)
            found = []
            for row in await connection.execute(wanted):
                values = dict(row._mapping)
                del values["session_id"]
                counts = {name: values.pop(name) for name in ("prompt_tokens", "completion_tokens")}
                found.append(Turn(usage=Usage(**counts), **values))
            return found

        return await self._run(read)

    async def past_turns(self, session_id: str) -> list[PastTurn]:
        """Texts of every turn of a session that was found, the oldest first."""

        async def read(connection: AsyncConnection) -> list[PastTurn]:
            wanted = select(turns.c.user, turns.c.assistant).where(turns.c.session_id == session_id)
            return [PastTurn(*row) for row in await connection.execute(wanted.order_by(turns.c.number))]

        return await self._run(read)

    async def newest(self, owner: str | None, limit: int, before: tuple[float, str] | None) -> list[Session]:
        """At most `limit` sessions, the last used first, beginning after the place `before`."""
        wanted = select(sessions, _COUNT).where(_owned(owner))
        if before is not None:
            updated, session_id = before
            earlier = and_(sessions.c.updated == updated, sessions.c.id < session_id)
            wanted = wanted.where(or_(sessions.c.updated < updated, earlier))
        wanted = wanted.order_by(sessions.c.updated.desc(), sessions.c.id.desc()).limit(limit)

        async def read(connection: AsyncConnection) -> list[Session]:
            return [_session(row) for row in await connection.execute(wanted)]

        return await self._run(read)

    async def count(self) -> int:
        """Number of sessions of all owners."""

        async def read(connection: AsyncConnection) -> int:
            return int((await connection.execute(select(func.count()).select_from(sessions))).scalar_one())

        return await self._run(read)

    async def add(self, session: Session, turn: Turn, *, is_new: bool) -> None:
        """Store a turn at the end of its session, and the session with its first turn, in one transaction."""
        last = select(func.coalesce(func.max(turns.c.number), 0)).where(turns.c.session_id == session.id)
        values = {
            "session_id": session.id,
            "number": last.scalar_subquery() + 1,
            "user": turn.user,
            "assistant": turn.assistant,
            "state": turn.state,
            "finish_reason": turn.finish_reason,
            "model": turn.model,
            "category": turn.category,
            "created": turn.created,
            **turn.usage.model_dump(),
        }

        async def write(connection: AsyncConnection) -> None:
            if is_new:
                columns = {column.name: getattr(session, column.name) for column in sessions.columns}
                await connection.execute(insert(sessions).values(columns))
            else:
                used = update(sessions).where(sessions.c.id == session.id)
                await connection.execute(used.values(updated=session.updated))
            await connection.execute(insert(turns).values(values))

        await self._run(write)

    async def change(self, session_id: str, owner: str | None, values: Mapping[str, str | None]) -> bool:
        """Set the title or the persona; True if there is such a session."""

        async def write(connection: AsyncConnection) -> bool:
            changed = update(sessions).where(_is(session_id, owner)).values(**values)
            return (await connection.execute(changed)).rowcount > 0

        return await self._run(write)

    async def delete(self, session_id: str, owner: str | None) -> bool:
        """Delete the session with all its turns; True if there was one."""

        async def write(connection: AsyncConnection) -> bool:
            return (await connection.execute(delete(sessions).where(_is(session_id, owner)))).rowcount > 0

        return await self._run(write)

    async def _run(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in one transaction, which finishes even if the client leaves meanwhile."""

        def ended(task: asyncio.Task[T]) -> None:
            self._running.discard(task)
            if not task.cancelled():
                # Retrieve the exception, because the task that waited for it may have been cancelled.
                task.exception()

        task = asyncio.ensure_future(self._transaction(work))
        self._running.add(task)
        task.add_done_callback(ended)
        return await asyncio.shield(task)

    async def _transaction(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        if self._opened is None:
            raise _failed("it is closed")
        try:
            async with self._opened.begin() as connection:
                return await work(connection)
        except SQLAlchemyError as error:
            reason = reason_of(error)
            log.error("session_database_failed", cause=reason)
            if is_fault_of_disk(error):
                raise RequestError(
                    f"the conversation cannot be saved: {reason}; free space in the folder of the session "
                    "database, and see that it can be written",
                    status=507,
                    type="server_error",
                    code="insufficient_storage",
                ) from error
            raise _failed(reason) from error


def _failed(reason: str) -> RequestError:
    return RequestError(
        f"the session database cannot be used: {reason}",
        status=503,
        type="server_error",
        code="session_database_failed",
    )


def _owned(owner: str | None) -> ColumnElement[bool]:
    return sessions.c.owner.is_not_distinct_from(owner)


def _is(session_id: str, owner: str | None) -> ColumnElement[bool]:
    return and_(sessions.c.id == session_id, _owned(owner))


def _session(row: Row[Any]) -> Session:
    return Session(**row._mapping)
