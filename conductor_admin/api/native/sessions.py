"""`/sessions` and `/sessions/{session_id}`: list, read, rename and delete stored conversations.

Only generations add turns. A session of another key is answered as one that does not exist.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from math import isfinite
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.openapi import reads
from conductor_admin.auth.caller import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.http.body import read_json
from conductor_admin.http.responses import JsonResponse
from conductor_admin.planner import known_persona
from conductor_admin.sessions.models import Session, SessionChange
from handlers.wire import RequestError

DEFAULT_LIMIT = 50
MOST = 200

_LISTED: dict[str, Any] = {
    "parameters": [
        {
            "name": "limit",
            "in": "query",
            "schema": {"type": "integer", "minimum": 1, "maximum": MOST, "default": DEFAULT_LIMIT},
        },
        {
            "name": "cursor",
            "in": "query",
            "description": "`next` of the previous answer",
            "schema": {"type": "string"},
        },
    ]
}


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = APIRouter()
    sessions = gateway.sessions

    @routes.get("/sessions", openapi_extra=_LISTED)
    async def listed(request: Request) -> Response:
        """List the caller's sessions, last used first; `next` is the cursor of the next page, or null."""
        limit, before = _limit(request), _place(request.query_params.get("cursor"))
        found = await sessions.store.newest(caller_of(request).key_id, limit + 1, before)
        shown = found[:limit]
        following = _cursor(shown[-1]) if len(found) > limit else None
        return JsonResponse({"sessions": [one.to_json() for one in shown], "next": following})

    @routes.get("/sessions/{session_id}")
    async def read(session_id: str, request: Request) -> Response:
        """One session with its turns, the oldest first; times are Unix seconds."""
        session = await sessions.read(session_id, caller_of(request).key_id)
        turns = await sessions.store.turns(session.id)
        return JsonResponse({**session.to_json(), "turns": [turn.to_json() for turn in turns]})

    @routes.patch("/sessions/{session_id}", openapi_extra=reads(SessionChange))
    async def change(session_id: str, request: Request) -> Response:
        """Rename a session, or give it another persona from its next turn on."""
        body = await read_json(request, SessionChange)
        if body.persona is not None:
            known_persona(gateway.catalogue, body.persona)
        session = await sessions.change(
            session_id, caller_of(request).key_id, body.model_dump(exclude_unset=True)
        )
        return JsonResponse(session.to_json())

    @routes.delete("/sessions/{session_id}")
    async def delete(session_id: str, request: Request) -> Response:
        """Delete a session with all its turns; 409 while it is being answered."""
        await sessions.delete(session_id, caller_of(request).key_id)
        return JsonResponse({"id": session_id, "deleted": True})

    return routes


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    # Four digits hold every limit; int() itself refuses thousands of them with another error.
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MOST):
        raise RequestError(f"limit must be an integer from 1 to {MOST}", param="limit", code="invalid_value")
    return int(text)


def _cursor(session: Session) -> str:
    return urlsafe_b64encode(f"{session.updated!r} {session.id}".encode()).decode()


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
