"""The responder of all protocols: plans a request, and answers it whole or as a stream.

A facade is its bodies and a `Rendering`. The rest of an answer is here, once: headers, comments while a
stream has no record, errors before and after the first byte, and the end of a client that leaves.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.errors import rename_error_params
from conductor_admin.api.fanout import ChoiceRecords, ChoiceResult, results_of_all, stream_all
from conductor_admin.api.schemas import json_of
from conductor_admin.dispatcher import Dispatcher
from conductor_admin.http.responses import (
    StreamResponse,
    error_response,
    failure_of,
    json_answer,
    until_left,
)
from conductor_admin.lifecycle.states import State
from conductor_admin.lifecycle.worker_sets import WorkerSetView
from conductor_admin.planner import PlannedRequest
from handlers.off_loop import off_loop
from handlers.wire import RequestError

log = structlog.get_logger()

KEEP_ALIVE_S = 15.0
LOADING_S = 1.0  # between two comments while a set loads

EVENT_STREAM = "text/event-stream"
DONE_EVENT = b"data: [DONE]\n\n"


class Rendering(ABC):
    """One request in the shapes of its protocol, from a checked body; used for one answer.

    `streams` asks for a stream of the type `media_type`. `names` maps the fields that planner and worker may
    refuse to the client's own names. A protocol without streams overrides `plan` and `whole` only.
    """

    streams: bool = False
    media_type: str = EVENT_STREAM
    names: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    async def plan(self) -> Sequence[PlannedRequest]:
        """The jobs of the request, at least one. Raises RequestError."""

    @abstractmethod
    def whole(self, ended: Sequence[ChoiceResult]) -> object:
        """The whole answer, a model or JSON values; called in a thread if it is large."""

    def headers(self, job: PlannedRequest) -> dict[str, str]:
        """Headers of the answer: the session's id, if there is a session, as a last record may never come."""
        return {"x-conductor-session": job.session.id} if job.session else {}

    def events(self, item: ChoiceRecords) -> bytes:
        """The next part of a stream, perhaps empty; called in a thread if it is large."""
        return b""

    def last(self) -> bytes:
        """The end of a stream that succeeded."""
        return b""

    def failed(self, error: RequestError) -> bytes:
        """The end of a stream that failed."""
        return b"data: " + orjson.dumps(error.to_json()) + b"\n\n"

    def comment(self, text: str) -> bytes:
        """The part of a stream that shows that the server is at work; empty if the type has no comments."""
        return f": {text}\n\n".encode()


async def respond(
    dispatcher: Dispatcher,
    request: Request,
    opening: Awaitable[Rendering],
    refused: Callable[[RequestError], Response] = error_response,
) -> Response:
    """Answer `request` with the rendering that `opening` makes of it.

    `refused` makes the answer of a RequestError before the first byte, one of `opening` included.
    """
    try:
        rendering = await opening
        with rename_error_params(rendering.names):
            jobs = await rendering.plan()
            headers = rendering.headers(jobs[0])
            if rendering.streams:
                pieces = _pieces(dispatcher, jobs, rendering)
                return StreamResponse(pieces, rendering.media_type, rendering.failed, refused, headers)
            ended = await until_left(request.receive, results_of_all(dispatcher, jobs))
        if ended is None:
            return Response(status_code=499)
        size = sum(one.size for one in ended)
        return await json_answer(size, lambda: json_of(rendering.whole(ended)), headers)
    except RequestError as error:
        return refused(error)


async def _pieces(
    dispatcher: Dispatcher, jobs: Sequence[PlannedRequest], rendering: Rendering
) -> AsyncGenerator[bytes, None]:
    slug, lifecycle = jobs[0].row.slug, dispatcher.lifecycle

    def quiet_s() -> float:
        return KEEP_ALIVE_S if lifecycle.state(slug) is State.READY else LOADING_S

    with rename_error_params(rendering.names):
        try:
            async with aclosing(stream_all(dispatcher, jobs, quiet_s)) as stream:
                async for item in stream:
                    if item is None:
                        piece = rendering.comment(waiting_for(slug, lifecycle.view(slug)))
                    else:
                        piece = await off_loop(item.size, rendering.events, item)
                    if piece:
                        yield piece
            if piece := rendering.last():
                yield piece
        except RequestError:
            raise
        except Exception as error:  # the head may be sent: only this stream can still tell its client
            log.exception("generation_broken")
            raise failure_of(error) from error


def waiting_for(slug: str, view: WorkerSetView) -> str:
    """Cause of the wait for `slug`: `loading maths 41% (convert)`, `queued 2nd of 3 for maths, ...`.

    The queue is that of the sets that wait for memory; seconds are given if earlier loads were timed.
    `keep-alive` if the set is READY.
    """
    if view.state is State.READY:
        return "keep-alive"
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
