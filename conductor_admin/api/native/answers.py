"""Answers of the routes for operators and for sessions; others are in `conductor_admin.api.schemas`."""

from __future__ import annotations

from typing import Any, Literal

from conductor_admin.api.schemas import Answer, Seconds, Tokens
from conductor_admin.lifecycle.load_record import EvictionReason
from conductor_admin.telemetry.trace import Stage, State
from handlers.wire import FinishReason


class TraceQueue(Answer):
    """Wait for a worker; `ahead` requests waited for the set already."""

    seconds: float
    ahead: int


class LoadPhase(Answer):
    """One phase of a load."""

    phase: str
    seconds: float


class EvictedSet(Answer):
    """A set that a load unloaded; its name is null if the reader may not know it."""

    set: str | None
    reason: EvictionReason


class TraceLoad(Answer):
    """A load that the generation waited for."""

    set: str
    result: str | None
    seconds: float
    phases: list[LoadPhase]
    queue_position: int | None
    queue_length: int | None
    evicted: list[EvictedSet]


class TraceError(Answer):
    """The error that ended a generation; without the message of a client's mistake."""

    code: str | None
    status: int
    param: str | None
    message: str | None


class TraceAnswer(Answer):
    """One generation from its arrival to its end; `findings` have sizes instead of texts."""

    id: str
    state: State
    stage: Stage
    started_at: float
    route: str
    category: str
    reason: str | None
    engine: str | None
    model: str
    set: str
    key: str | None
    session_id: str | None
    queue: TraceQueue
    loads: list[TraceLoad]
    workers: list[int]
    first_token_s: float | None
    timings: Seconds | None
    tokens_per_second: float | None
    usage: Tokens | None
    attempts: int
    findings: dict[str, Any] | None
    finish_reason: FinishReason | None
    error: TraceError | None
    seconds: float


class TracesAnswer(Answer):
    """The latest generations, the newest first."""

    requests: list[TraceAnswer]


class PlannedMemory(Answer):
    """Bytes of a device, and those of the resident sets."""

    budget: int
    resident: int


class PlannedSet(Answer):
    """Bytes of all workers on the set's device; null if unknown."""

    set: str
    device: str
    declared: int | None
    estimated: int | None
    peak: int | None
    needed: int


class Correction(Answer):
    """A better cell for a row whose declared memory differs too much from the measured peak."""

    category: str
    declared: int | None
    peak: int
    cell: str


class NeverFits(Answer):
    """A set that can never be loaded beside the resident sets."""

    set: str
    device: str
    needed: int
    room: int


class PlanAnswer(Answer):
    """Changes that another SETTINGS.md would make, row by row, and whether the resident sets fit."""

    added: list[str]
    rebuilt: list[str]
    changed: list[str]
    removed: list[str]
    untouched: list[str]
    warnings: list[str]
    resident_fits: bool
    memory: dict[str, PlannedMemory]
    sets: list[PlannedSet]
    corrections: list[Correction]
    drains_first: list[str]
    never_fits: list[NeverFits]
    never_together: list[list[str]]


class SessionAnswer(Answer):
    """A stored conversation."""

    id: str
    title: str
    persona: str | None
    category: str
    created: float
    updated: float
    turn_count: int


class TurnAnswer(Answer):
    """One turn of a stored conversation."""

    number: int
    user: str
    assistant: str
    state: Literal["complete", "cancelled"]
    finish_reason: str
    usage: Tokens
    model: str
    category: str
    created: float


class SessionWithTurnsAnswer(SessionAnswer):
    """A stored conversation with its turns, the oldest first."""

    turns: list[TurnAnswer]


class SessionsAnswer(Answer):
    """Stored conversations; `next` is the cursor of the next page."""

    sessions: list[SessionAnswer]
    next: str | None


class Deleted(Answer):
    """A conversation that is gone."""

    id: str
    deleted: Literal[True]


class KeyAnswer(Answer):
    """A key without its text; null is no limit."""

    id: str
    name: str
    scopes: list[str]
    categories: list[str] | None
    may_load: bool
    may_evict: bool
    requests_per_minute: int | None
    tokens_per_minute: int | None
    streams: int | None
    expires: float | None
    created: float
    last_used: float | None


class KeyMade(KeyAnswer):
    """A key with its text, which is never shown again."""

    key: str


class KeysAnswer(Answer):
    """Every key with its rules."""

    keys: list[KeyAnswer]
