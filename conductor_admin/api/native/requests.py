"""`GET /requests` and `/requests/{request_id}`: traces that tell why a request was slow."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BeforeValidator
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.native.answers import TraceAnswer, TracesAnswer
from conductor_admin.api.routing import new_router
from conductor_admin.auth.caller import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.http.responses import JsonResponse
from conductor_admin.telemetry.trace import MOST_TRACES

_SHOWN = 50


def _checked_limit(given: object) -> object:
    if isinstance(given, str) and (not re.fullmatch(r"[1-9][0-9]{0,3}", given) or int(given) > MOST_TRACES):
        raise ValueError(f"limit must be from 1 to {MOST_TRACES}")
    return given


Limit = Annotated[int, Query(ge=1, le=MOST_TRACES), BeforeValidator(_checked_limit)]


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = new_router()

    @routes.get("/requests", response_model=TracesAnswer)
    async def latest(limit: Limit = _SHOWN) -> Response:
        """The latest generations of all callers, the newest first; `limit` of them, 50 by default."""
        # Not through the model: those that have ended are kept as JSON, up to 8 MiB of it.
        return JsonResponse({"requests": gateway.telemetry.traces.latest(limit)})

    @routes.get("/requests/{request_id}")
    async def read(request_id: str, request: Request) -> TraceAnswer:
        """The trace of one generation of the caller, also while it runs."""
        return TraceAnswer.model_validate(gateway.telemetry.traces.read(request_id, caller_of(request)))

    return routes
