"""Turns of a session: pure functions of a planned request, its history and its records."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import orjson

from conductor_admin.planner import PlannedRequest, SessionAsk
from conductor_admin.sessions.models import MAX_CHARS, MAX_TURNS, PastTurn, Session, Turn, title_of
from handlers.engines.registry import engine_class
from handlers.wire import Done, Message, RequestError, Usage


@dataclass(slots=True)
class PartialAnswer:
    """Part of an answer that was sent, unparsed: the last record of most answers repeats the text."""

    blocks: list[bytes] = field(default_factory=list)
    is_kept: bool = False

    def text(self) -> str:
        """The text that was sent, of the last attempt only."""
        pieces: list[str] = []
        for line in b"".join(self.blocks).splitlines():
            record = orjson.loads(line)
            if "attempt" in record:
                pieces.clear()
            pieces.append(record.get("delta", ""))
        return "".join(pieces)


def new_prompt(planned: PlannedRequest) -> str:
    """The user's text in this turn; RequestError 400 unless there is exactly one user message."""
    users = [turn for turn in planned.request.turns if turn.role != "system"]
    if len(users) != 1 or users[0].role != "user":
        raise RequestError(
            "a session keeps the history: send one user message, with system messages if needed",
            code="invalid_session_messages",
            param="messages",
        )
    return users[0].content


def with_history(planned: PlannedRequest, persona: str | None, history: list[PastTurn]) -> PlannedRequest:
    """The request with the whole history before its messages; 400 without a session, 409 if it is full."""
    new_prompt(planned)  # raises before anything is loaded
    engine = planned.request.engine
    if not engine_class(engine).converses:
        raise RequestError(
            f"engine {engine} answers single requests and does not support sessions",
            code="no_session",
            param="session_id",
        )
    if len(history) >= MAX_TURNS or sum(map(len, history)) >= MAX_CHARS:
        raise RequestError(
            f"the session is full: {MAX_TURNS} turns or {MAX_CHARS} characters; start a new one",
            status=409,
            code="session_full",
            param="session_id",
        )
    before: list[Message] = [message for past in history for message in past.messages()]
    update = {"prompt": None, "messages": [*before, *planned.request.turns], "system": persona}
    return replace(planned, request=planned.request.model_copy(update=update))


def first_session(planned: PlannedRequest, ask: SessionAsk, now: float) -> Session:
    """The new session of a first turn."""
    return Session(
        id=ask.id,
        owner=planned.caller.key_id,
        title=title_of(new_prompt(planned)),
        persona=ask.persona,
        category=planned.row.slug,
        created=now,
        updated=now,
    )


def turn_of(planned: PlannedRequest, text: str, done: Done | None) -> Turn:
    """The turn that ends now: `complete` with a last record, else `cancelled`; the store numbers it."""
    return Turn(
        number=0,
        user=new_prompt(planned),
        assistant=text,
        state="complete" if done else "cancelled",
        finish_reason=done.finish_reason if done else "cancelled",
        usage=done.usage if done else Usage(),
        model=(done.model if done else None) or planned.row.technical_model_name,
        category=planned.row.slug,
        created=time.time(),
    )
