"""Turns of a session: pure functions of a job, its history and its records."""

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


def new_prompt(job: PlannedRequest) -> str:
    """The user's text in this turn; RequestError 400 unless there is exactly one user message."""
    users = [turn for turn in job.request.turns if turn.role != "system"]
    if len(users) != 1 or users[0].role != "user":
        raise RequestError(
            "a session keeps the history: messages are one user turn, and system messages if need be",
            code="invalid_session_messages",
            param="messages",
        )
    return users[0].content


def with_history(job: PlannedRequest, persona: str | None, history: list[PastTurn]) -> PlannedRequest:
    """The job with the whole history before its own messages; 400 without a session, 409 if it is full."""
    new_prompt(job)  # raises before anything is loaded
    engine = job.request.engine
    if not engine_class(engine).converses:
        raise RequestError(
            f"engine {engine} answers single requests and keeps no session",
            code="no_session",
            param="session_id",
        )
    if len(history) >= MAX_TURNS or sum(map(len, history)) >= MAX_CHARS:
        raise RequestError(
            f"the session is full: {MAX_TURNS} turns or {MAX_CHARS} characters; begin a new one",
            status=409,
            code="session_full",
            param="session_id",
        )
    before: list[Message] = [message for said in history for message in said.messages()]
    update = {"prompt": None, "messages": [*before, *job.request.turns], "system": persona}
    return replace(job, request=job.request.model_copy(update=update))


def first_session(job: PlannedRequest, ask: SessionAsk, now: float) -> Session:
    """The new session of a first turn."""
    return Session(
        id=ask.id,
        owner=job.caller.key_id,
        title=title_of(new_prompt(job)),
        persona=ask.persona,
        category=job.row.slug,
        created=now,
        updated=now,
    )


def turn_of(job: PlannedRequest, text: str, done: Done | None) -> Turn:
    """The turn that ends now: `complete` with a last record, else `cancelled`; the store numbers it."""
    return Turn(
        number=0,
        user=new_prompt(job),
        assistant=text,
        state="complete" if done else "cancelled",
        finish_reason=done.finish_reason if done else "cancelled",
        usage=done.usage if done else Usage(),
        model=(done.model if done else None) or job.row.technical_model_name,
        category=job.row.slug,
        created=time.time(),
    )
