"""`GET /requests` and `/requests/{request_id}`: traces that tell why a request was slow."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.auth.caller import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.http.responses import JsonResponse
from conductor_admin.telemetry.trace import MOST_TRACES
from handlers.wire import RequestError

_SHOWN = 50
_LISTED: dict[str, Any] = {
    "parameters": [
        {
            "name": "limit",
            "in": "query",
            "schema": {"type": "integer", "minimum": 1, "maximum": MOST_TRACES, "default": _SHOWN},
        }
    ]
}


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = APIRouter()

    @routes.get("/requests", openapi_extra=_LISTED)
    async def latest(request: Request) -> Response:
        """The latest generations of all callers, the newest first; `limit` of them, 50 by default."""
        limit = _limit(request.query_params.get("limit", str(_SHOWN)))
        return JsonResponse({"requests": gateway.telemetry.traces.latest(limit)})

    @routes.get("/requests/{request_id}")
    async def read(request_id: str, request: Request) -> Response:
        """The trace of one generation of the caller, also while it runs."""
        return JsonResponse(gateway.telemetry.traces.read(request_id, caller_of(request)))

    return routes


def _limit(given: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,3}", given) or int(given) > MOST_TRACES:
        raise RequestError(f"limit must be from 1 to {MOST_TRACES}", param="limit", code="invalid_value")
    return int(given)
