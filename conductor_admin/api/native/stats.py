"""`GET /stats`: figures since the start."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request

from conductor_admin.api.routing import new_router
from conductor_admin.api.schemas import CategoryStats, MemoryUse, ServerMemory, StatsAnswer
from conductor_admin.auth.caller import Caller, caller_of
from conductor_admin.gateway import Gateway


def router(gateway: Gateway) -> APIRouter:
    """The route over `gateway`."""
    routes = new_router()

    @routes.get("/stats")
    async def stats(request: Request) -> StatsAnswer:
        """The figures of every category that the caller may use, and of memory."""
        return stats_answer(gateway, caller_of(request))

    return routes


def stats_answer(gateway: Gateway, caller: Caller) -> StatsAnswer:
    """Figures since the start.

    Figures of the whole server are null for a key that is limited to some categories: they would reveal the
    use by others.
    """
    admission, counted = gateway.lifecycle.admission, gateway.stats.categories()
    whole = not caller.is_restricted
    budget, charged = admission.budget, admission.charged
    devices = {device: _use(size, charged.get(device, 0)) for device, size in budget.items()}
    together = _use(sum(budget.values()), sum(charged.values()))
    return StatsAnswer(
        uptime_s=round(gateway.stats.uptime_s, 3),
        memory=ServerMemory(**dict(together), devices=devices) if whole else None,
        swaps=admission.swaps.made if whole else None,
        swaps_avoided=admission.swaps.avoided if whole else None,
        categories={
            slug: CategoryStats.model_validate(figures)
            for slug, figures in counted.items()
            if caller.may_use(slug)
        },
    )


def _use(budget: int, used: int) -> MemoryUse:
    return MemoryUse(budget=budget, used=used, free=max(0, budget - used))
