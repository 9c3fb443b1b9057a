"""`POST /generate`, `POST /generate/stream`, and `POST /check` for an answer that the client already has."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.rendering import Generation
from conductor_admin.api.responder import respond
from conductor_admin.api.routing import EVENTS, new_router, reads
from conductor_admin.api.schemas import Checked, Generated
from conductor_admin.auth.caller import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.http.body import read_json
from conductor_admin.planner import find_row, row_options
from handlers.wire import MAX_PROMPT_CHARS, MOST_OPTIONS, GenerateBody, GenerateRequest, Shape

MAX_TEXT_CHARS = 1_000_000
"""Longest answer to check, in characters: more than any model here writes."""


class CheckBody(Shape):
    """Body of `/check`: an answer that the client already has."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    category: Annotated[str, Field(max_length=200)] | None = None
    prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARS)] = ""
    text: Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
    options: Annotated[dict[str, Any], Field(max_length=MOST_OPTIONS)] = Field(default={})


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = new_router()

    async def opened(request: Request, *, streams: bool) -> Generation:
        body = await read_json(request, GenerateBody)
        return Generation(gateway, request, body, streams=streams or body.stream)

    @routes.post("/generate", response_model=Generated, responses=EVENTS, openapi_extra=reads(GenerateBody))
    async def generate(request: Request) -> Response:
        """Generate an answer; `stream: true` streams it as `/generate/stream` does."""
        return await respond(gateway.dispatcher, request, opened(request, streams=False))

    @routes.post(
        "/generate/stream", response_class=Response, responses=EVENTS, openapi_extra=reads(GenerateBody)
    )
    async def generate_stream(request: Request) -> Response:
        """Generate an answer as server-sent events."""
        return await respond(gateway.dispatcher, request, opened(request, streams=True))

    @routes.post("/check", openapi_extra=reads(CheckBody))
    async def check(request: Request) -> Checked:
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
            return Checked(findings=await gateway.checker.findings(asked, body.text))

    return routes
