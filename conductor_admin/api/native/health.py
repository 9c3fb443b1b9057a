"""`GET /health`, `/health/live`, `/health/ready`: whether the gateway lives, and whether it can serve."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.native.models import retry_after_s
from conductor_admin.api.routing import new_router
from conductor_admin.api.schemas import HealthAnswer, HealthStatus, Live, Ready, SetHealth, SettingsHealth
from conductor_admin.auth.caller import Caller, caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.lifecycle.states import State
from conductor_admin.lifecycle.worker_sets import WorkerSetView, is_ready


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = new_router()

    @routes.get("/health", responses={503: {"model": HealthAnswer}})
    async def health(request: Request, response: Response) -> HealthAnswer:
        """Detail: every set, and the cause and retry time of those that failed.

        A key that is limited to some categories sees only their sets, named after its own rows.
        """
        views, caller = gateway.lifecycle.views(), caller_of(request)
        live = gateway.heartbeat.is_beating
        up = gateway.lifecycle.torchserve_up
        ready = live and is_ready(views, up)
        loading = live and any(view.state is State.LOADING for view in views)
        status: HealthStatus = "ok" if ready else "loading" if loading else "unavailable"
        pending = gateway.settings.issues or gateway.lifecycle.failed_changes
        impaired = any(view.state is State.FAILED or view.unresponsive or view.replacing for view in views)
        response.status_code = 200 if live else 503
        errors = [] if caller.is_restricted else [str(issue) for issue in gateway.settings.issues]
        return HealthAnswer(
            status="degraded" if ready and (pending or impaired or not up) else status,
            live=live,
            ready=ready,
            torchserve=up,
            torchserve_fault=gateway.lifecycle.torchserve_fault,
            settings=SettingsHealth(errors=errors),
            failed_changes=[] if caller.is_restricted else gateway.lifecycle.failed_changes,
            sets=[_set(view, name) for view in views if (name := _name_for(view, caller))],
        )

    @routes.get("/health/live", responses={503: {"model": Live}})
    async def live(response: Response) -> Live:
        """200 while the lifecycle loop beats."""
        live = gateway.heartbeat.is_beating
        response.status_code = 200 if live else 503
        return Live(live=live)

    @routes.get("/health/ready", responses={503: {"model": Ready}})
    async def ready(response: Response) -> Ready:
        """200 once every resident set is READY or FAILED and at least one set can serve."""
        lifecycle = gateway.lifecycle
        ready = gateway.heartbeat.is_beating and is_ready(lifecycle.views(), lifecycle.torchserve_up)
        response.status_code = 200 if ready else 503
        return Ready(ready=ready)

    return routes


def _name_for(view: WorkerSetView, caller: Caller) -> str | None:
    """The set's name, else its first row that the caller may use; None if it may use none."""
    slugs = [view.worker_set.name, *(row.slug for row in view.worker_set.rows)]
    return next((slug for slug in slugs if caller.may_use(slug)), None)


def _set(view: WorkerSetView, name: str) -> SetHealth:
    return SetHealth(
        set=name,
        state=view.state,
        phase=view.phase,
        progress=view.progress,
        position=view.position,
        unresponsive=view.unresponsive,
        error=view.failure.message if view.failure else None,
        retry_after_s=retry_after_s(view),
    )
