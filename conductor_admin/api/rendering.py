"""Rendering of a generation: one JSON object, server-sent events, or the worker's own records.

Knows the shapes of `/generate`, `/generate/stream` and `/predictions`; the records come from
`conductor_admin.dispatcher`. A stream that has begun reports a failure as its last event.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import orjson
from starlette.responses import Response

from conductor_admin.dispatcher import Dispatcher
from conductor_admin.http.responses import json_answer
from conductor_admin.lifecycle.states import State
from conductor_admin.lifecycle.worker_sets import WorkerSetView
from conductor_admin.planner import PlannedRequest
from handlers.long_records import RawRows
from handlers.off_loop import off_loop
from handlers.wire import Done, RequestError

KEEP_ALIVE_S = 15.0
LOADING_S = 1.0  # between two comments while a set loads
DONE_EVENT = b"data: [DONE]\n\n"


def generation_answer(job: PlannedRequest, done: Done) -> dict[str, Any]:
    """The body of `/generate`."""
    record = last_record(job, done)
    named = {name: record.pop(name) for name in ("id", "category", "model")}
    return {**named, "text": done.text, **_asked_logprobs(done), **record}


async def whole_answer(job: PlannedRequest, done: Done) -> Response:
    """The answer of `/generate`."""
    return await json_answer(answer_size(done), lambda: generation_answer(job, done), session_header(job))


def answer_size(*ended: Done) -> int:
    """Size of the answers, in characters or in units that cost as much to serialise."""
    return sum(len(done.text) + _rows_size(done) + _vectors_size(done) for done in ended)


def _rows_size(done: Done) -> int:
    return done.logprobs.size if isinstance(done.logprobs, RawRows) else 0


def _vectors_size(done: Done) -> int:
    return sum(map(len, done.findings.get("embeddings") or ()))


def _asked_logprobs(done: Done) -> dict[str, Any]:
    if done.logprobs is None:
        return {}
    return {"logprobs": done.logprobs.json() if isinstance(done.logprobs, RawRows) else done.logprobs}


def last_record(job: PlannedRequest, done: Done) -> dict[str, Any]:
    """Every field of `/generate` but the text."""
    return {
        "id": job.request.id,
        "category": job.row.slug,
        "model": done.model or job.row.technical_model_name,
        "finish_reason": done.finish_reason,
        "usage": {**done.usage.model_dump(), "total_tokens": done.usage.total_tokens},
        "timings": done.timings.model_dump(),
        "findings": done.findings,
        "session_id": job.session.id if job.session else None,
    }


def session_header(job: PlannedRequest) -> dict[str, str]:
    """Header with the session's id, if there is a session: the last record may never come."""
    return {"x-conductor-session": job.session.id} if job.session else {}


def sse_lines(lines: bytes) -> bytes:
    """Turn whole NDJSON lines into one event each, unparsed: JSON has no raw line ends."""
    return b"data: " + lines[:-1].replace(b"\n", b"\n\ndata: ") + b"\n\n"


async def events(dispatcher: Dispatcher, job: PlannedRequest) -> AsyncGenerator[bytes, None]:
    """The generation as server-sent events, with comments while no record comes."""

    async def render(record: bytes | Done) -> bytes:
        if isinstance(record, bytes):
            return sse_lines(record)
        size, last = answer_size(record), last_record(job, record)
        return b"data: " + await off_loop(size, orjson.dumps, last) + b"\n\n" + DONE_EVENT

    def comment() -> bytes:
        return loading_comment(job.row.slug, dispatcher.lifecycle.view(job.row.slug))

    def quiet_s() -> float:
        view = dispatcher.lifecycle.view(job.row.slug)
        return KEEP_ALIVE_S if view.state is State.READY else LOADING_S

    async with (
        aclosing(dispatcher.run(job)) as records,
        aclosing(_with_comments(records, comment, quiet_s)) as pieces,
    ):
        async for piece in pieces:
            yield piece if isinstance(piece, bytes) and piece.startswith(b":") else await render(piece)


async def lines(dispatcher: Dispatcher, job: PlannedRequest) -> AsyncGenerator[bytes, None]:
    """The generation as the worker's records, for `/predictions`."""
    async with aclosing(dispatcher.run(job)) as records:
        async for record in records:
            if isinstance(record, bytes):
                yield record
            else:
                named = {"session_id": job.session.id} if job.session else {}
                yield await off_loop(answer_size(record), _last_line, record, named)


def _last_line(done: Done, named: dict[str, Any]) -> bytes:
    return orjson.dumps({"done": {**done.to_json(), **_asked_logprobs(done), **named}}) + b"\n"


def loading_comment(slug: str, view: WorkerSetView) -> bytes:
    """Comment for a stream without records: the text of `waiting_for`, or a keep-alive."""
    text = "keep-alive" if view.state is State.READY else waiting_for(slug, view)
    return f": {text}\n\n".encode()


def waiting_for(slug: str, view: WorkerSetView) -> str:
    """Cause of the wait for `slug`: `loading maths 41% (convert)`, `queued 2nd of 3 for maths, ...`.

    The queue is that of the sets that wait for memory; seconds are given if earlier loads were timed.
    """
    if view.position is not None:
        return f"queued {ordinal(view.position)} of {view.queue} for {slug}, waiting for memory"
    if view.state is State.UNLOADING:
        return f"unloading {slug} before loading it again"
    share = "" if view.progress is None else f" {view.progress:.0%}"
    phase = f" ({view.phase})" if view.phase else ""
    rest = "" if view.eta_s is None else f", about {math.ceil(view.eta_s)} s"
    return f"loading {slug}{share}{phase}{rest}"


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `3rd`, `11th`."""
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


async def _with_comments(
    records: AsyncGenerator[bytes | Done, None],
    comment: Callable[[], bytes],
    quiet_s: Callable[[], float],
) -> AsyncGenerator[bytes | Done, None]:
    """`records`, with a comment after every `quiet_s()` seconds without a record."""
    coming = asyncio.ensure_future(anext(records))
    try:
        while True:
            while not (await asyncio.wait({coming}, timeout=quiet_s()))[0]:
                yield comment()
            yield coming.result()
            coming = asyncio.ensure_future(anext(records))
    except StopAsyncIteration:
        return
    finally:
        coming.cancel()
        await asyncio.wait({coming})


def error_event(error: RequestError) -> bytes:
    """The last event of a stream that failed."""
    return b"data: " + orjson.dumps(error.to_json()) + b"\n\n"


def error_line(error: RequestError) -> bytes:
    """The last record of a `/predictions` stream that failed."""
    return orjson.dumps(error.to_json()) + b"\n"
