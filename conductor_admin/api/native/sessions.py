"""`/sessions` and `/sessions/{session_id}`: list, read, rename and delete stored conversations.

Only generations add turns. A session of another key is answered as one that does not exist.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from math import isfinite
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BeforeValidator
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.native.answers import (
    Deleted,
    SessionAnswer,
    SessionsAnswer,
    SessionWithTurnsAnswer,
    TurnAnswer,
)
from conductor_admin.api.routing import new_router, reads
from conductor_admin.api.schemas import json_of
from conductor_admin.auth.caller import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.http.body import read_json
from conductor_admin.http.responses import json_answer
from conductor_admin.planner import known_persona
from conductor_admin.sessions.models import SessionChange
from handlers.off_loop import TURN
from handlers.wire import RequestError

DEFAULT_LIMIT = 50
MOST = 200


def _checked_limit(given: object) -> object:
    # Four digits hold every limit; int() itself refuses thousands of them with another error.
    if isinstance(given, str) and not (
        given.isascii() and given.isdigit() and len(given) <= 4 and 1 <= int(given) <= MOST
    ):
        raise ValueError(f"limit must be an integer from 1 to {MOST}")
    return given


Limit = Annotated[int, Query(ge=1, le=MOST), BeforeValidator(_checked_limit)]
Cursor = Annotated[str | None, Query(description="`next` of the previous answer")]


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = new_router()
    sessions = gateway.sessions

    @routes.get("/sessions")
    async def listed(request: Request, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> SessionsAnswer:
        """List the caller's sessions, last used first; `next` is the cursor of the next page, or null."""
        found = await sessions.store.newest(caller_of(request).key_id, limit + 1, _place(cursor))
        shown = found[:limit]
        following = None
        if len(found) > limit:
            place = f"{shown[-1].updated!r} {shown[-1].id}"
            following = urlsafe_b64encode(place.encode()).decode()
        return SessionsAnswer(sessions=[SessionAnswer(**one.to_json()) for one in shown], next=following)

    @routes.get("/sessions/{session_id}", response_model=SessionWithTurnsAnswer)
    async def read(session_id: str, request: Request) -> Response:
        """One session with its turns, the oldest first; times are Unix seconds."""
        session = await sessions.read(session_id, caller_of(request).key_id)
        turns = await sessions.store.turns(session.id)

        def answer() -> object:
            told = [TurnAnswer(**turn.to_json()) for turn in turns]
            return json_of(SessionWithTurnsAnswer(**session.to_json(), turns=told))

        return await json_answer(sum(TURN + len(t.user) + len(t.assistant) for t in turns), answer)

    @routes.patch("/sessions/{session_id}", openapi_extra=reads(SessionChange))
    async def change(session_id: str, request: Request) -> SessionAnswer:
        """Rename a session, or give it another persona from its next turn on."""
        body = await read_json(request, SessionChange)
        if body.persona is not None:
            known_persona(gateway.catalogue, body.persona)
        session = await sessions.change(
            session_id, caller_of(request).key_id, body.model_dump(exclude_unset=True)
        )
        return SessionAnswer(**session.to_json())

    @routes.delete("/sessions/{session_id}")
    async def delete(session_id: str, request: Request) -> Deleted:
        """Delete a session with all its turns; 409 while it is being answered."""
        await sessions.delete(session_id, caller_of(request).key_id)
        return Deleted(id=session_id, deleted=True)

    return routes


def _place(cursor: str | None) -> tuple[float, str] | None:
    if cursor is None:
        return None
    try:
        updated, _, session_id = urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        place = float(updated), session_id
    except (binascii.Error, ValueError) as error:
        raise _bad_cursor() from error
    if not isfinite(place[0]):
        raise _bad_cursor()
    return place


def _bad_cursor() -> RequestError:
    return RequestError("cursor was not issued by this server", param="cursor", code="invalid_value")
