"""`GET /metrics`: figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.callers import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.telemetry.scrape import exposed


def router(gateway: Gateway) -> APIRouter:
    """The route over `gateway`."""
    routes = APIRouter()

    @routes.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Prometheus' text, or OpenMetrics where it is asked for; loads nothing."""
        text, content_type = await exposed(gateway, request.headers.get("accept", ""), caller_of(request))
        # Not `media_type`, to which a charset would be added a second time.
        return Response(text, headers={"content-type": content_type, "cache-control": "no-store"})

    return routes
