"""`POST /generate`, `POST /generate/stream`, and `POST /check` for an answer that the client already has."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.openapi import CheckBody, reads
from conductor_admin.api.rendering import error_event, events, session_header, whole_answer
from conductor_admin.auth.caller import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.http.body import read_json
from conductor_admin.http.responses import JsonResponse, StreamResponse, until_left
from conductor_admin.planner import PlannedRequest, find_row, row_options
from handlers.wire import GenerateBody, GenerateRequest

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
        done = await until_left(request.receive, gateway.dispatcher.result(job))
        return Response(status_code=499) if done is None else await whole_answer(job, done)

    @routes.post("/generate/stream", openapi_extra=reads(GenerateBody))
    async def generate_stream(request: Request) -> Response:
        """Generate an answer as server-sent events."""
        body = await read_json(request, GenerateBody)
        job = await gateway.plan(body, request.state.request_id, caller_of(request))
        return _stream(gateway, job)

    @routes.post("/check", openapi_extra=reads(CheckBody))
    async def check(request: Request) -> Response:
        """Findings of the category's engine about `text`; loads nothing."""
        body = await read_json(request, CheckBody)
        caller = caller_of(request)
        row = find_row(gateway.catalogue, body.category, caller)
        asked = GenerateRequest(
            id=request.state.request_id,
            client=caller.client,
            engine=row.engine,
            prompt=body.prompt,
            options={**row_options(row), **body.options},
        )
        with gateway.dispatcher.quotas.admitted(caller):
            return JsonResponse({"findings": await gateway.checker.findings(asked, body.text)})

    return routes


def _stream(gateway: Gateway, job: PlannedRequest) -> Response:
    pieces = events(gateway.dispatcher, job)
    return StreamResponse(pieces, EVENT_STREAM, error_event, more_headers=session_header(job))
