"""`GET /stats`: figures since the start."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from conductor_admin.failures import JsonResponse
from conductor_admin.gateway import Gateway
from conductor_admin.policy import Bytes


def router(gateway: Gateway) -> APIRouter:
    """The route over `gateway`."""
    routes = APIRouter()

    @routes.get("/stats")
    async def stats() -> Response:
        """The figures of every category, and of memory."""
        return JsonResponse(figures(gateway))

    return routes


def figures(gateway: Gateway) -> dict[str, Any]:
    """Memory in bytes, times in milliseconds."""
    rooms = gateway.lifecycle.rooms
    return {
        "uptime_s": round(gateway.stats.uptime_s, 3),
        "memory": _memory(rooms.budget, rooms.charged),
        "swaps": rooms.swaps.made,
        "swaps_avoided": rooms.swaps.avoided,
        "categories": gateway.stats.categories(),
    }


def _memory(budget: Bytes, charged: Bytes) -> dict[str, Any]:
    """All devices together, and each one; `used` is what loaded sets are charged."""
    devices = {device: _use(size, charged.get(device, 0)) for device, size in budget.items()}
    return {**_use(sum(budget.values()), sum(charged.values())), "devices": devices}


def _use(budget: int, used: int) -> dict[str, int]:
    return {"budget": budget, "used": used, "free": max(0, budget - used)}
