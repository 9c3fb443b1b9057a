"""`POST /generate` and `POST /generate/stream`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.answers import error_event, events, session_header, whole_answer
from conductor_admin.body import read_json
from conductor_admin.callers import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.openapi import reads
from conductor_admin.router import Job
from conductor_admin.streaming import StreamResponse, until_left
from handlers.wire import GenerateBody

EVENT_STREAM = "text/event-stream"


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = APIRouter()

    @routes.post("/generate", openapi_extra=reads(GenerateBody))
    async def generate(request: Request) -> Response:
        """Generate an answer; `stream: true` streams it as `/generate/stream` does."""
        body = await read_json(request, GenerateBody)
        job = await gateway.plan(body, request.state.request_id, caller_of(request))
        if body.stream:
            return _stream(gateway, job)
        done = await until_left(request.receive, gateway.generations.result(job))
        return Response(status_code=499) if done is None else await whole_answer(job, done)

    @routes.post("/generate/stream", openapi_extra=reads(GenerateBody))
    async def generate_stream(request: Request) -> Response:
        """Generate an answer as server-sent events."""
        body = await read_json(request, GenerateBody)
        job = await gateway.plan(body, request.state.request_id, caller_of(request))
        return _stream(gateway, job)

    return routes


def _stream(gateway: Gateway, job: Job) -> Response:
    pieces = events(gateway.generations, job)
    return StreamResponse(pieces, EVENT_STREAM, error_event, more_headers=session_header(job))
