"""`GET /stats`: figures since the start."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.auth.caller import Caller, caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.http.responses import JsonResponse
from conductor_admin.memory.policy import DeviceBytes


def router(gateway: Gateway) -> APIRouter:
    """The route over `gateway`."""
    routes = APIRouter()

    @routes.get("/stats")
    async def stats(request: Request) -> Response:
        """The figures of every category that the caller may use, and of memory."""
        return JsonResponse(stats_to_json(gateway, caller_of(request)))

    return routes


def stats_to_json(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Figures since the start: memory in bytes, times in milliseconds unless a name says otherwise.

    Figures of the whole server are null for a key that is limited to some categories: they would reveal the
    use by others.
    """
    admission = gateway.lifecycle.admission
    whole = not caller.is_restricted
    return {
        "uptime_s": round(gateway.stats.uptime_s, 3),
        "memory": _memory(admission.budget, admission.charged) if whole else None,
        "swaps": admission.swaps.made if whole else None,
        "swaps_avoided": admission.swaps.avoided if whole else None,
        "categories": {
            slug: counted for slug, counted in gateway.stats.categories().items() if caller.may_use(slug)
        },
    }


def _memory(budget: DeviceBytes, charged: DeviceBytes) -> dict[str, Any]:
    """Budget, use and free bytes of all devices together and of each; loaded sets make up `used`."""
    devices = {device: _use(size, charged.get(device, 0)) for device, size in budget.items()}
    return {**_use(sum(budget.values()), sum(charged.values())), "devices": devices}


def _use(budget: int, used: int) -> dict[str, int]:
    return {"budget": budget, "used": used, "free": max(0, budget - used)}
