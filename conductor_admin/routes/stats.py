"""`GET /stats`: figures since the start."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from conductor_admin.failures import JsonResponse
from conductor_admin.gateway import Gateway


def router(gateway: Gateway) -> APIRouter:
    """The route over `gateway`."""
    routes = APIRouter()

    @routes.get("/stats")
    async def stats() -> Response:
        """Memory in bytes, times in milliseconds."""
        used = sum(view.measured or 0 for view in gateway.lifecycle.views())
        memory = {"budget": gateway.budget, "used": used, "free": max(0, gateway.budget - used)}
        return JsonResponse(
            {
                "uptime_s": round(gateway.stats.uptime_s, 3),
                "memory": memory,
                "swaps": 0,
                "swaps_avoided": 0,
                "categories": gateway.stats.categories(),
            }
        )

    return routes
