"""`POST /check`: an engine's checks on an answer that the client already has."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.body import read_json
from conductor_admin.callers import caller_of
from conductor_admin.failures import JsonResponse
from conductor_admin.gateway import Gateway
from conductor_admin.openapi import CheckBody, reads
from conductor_admin.router import find_row, row_options
from handlers.wire import GenerateRequest


def router(gateway: Gateway) -> APIRouter:
    """The route over `gateway`."""
    routes = APIRouter()

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
        with gateway.generations.quotas.admitted(caller):
            return JsonResponse({"findings": await gateway.checker.findings(asked, body.text)})

    return routes
