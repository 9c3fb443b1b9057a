"""`GET /health`, `/health/live`, `/health/ready`: whether the gateway lives, and whether it can serve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.native.models import retry_after_s
from conductor_admin.auth.caller import Caller, caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.http.responses import JsonResponse
from conductor_admin.lifecycle.states import State
from conductor_admin.lifecycle.worker_sets import WorkerSetView, is_ready


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = APIRouter()

    @routes.get("/health")
    async def health(request: Request) -> Response:
        """Detail: every set, and the cause and retry time of those that failed.

        A key that is limited to some categories sees only their sets, named after its own rows.
        """
        views, caller = gateway.lifecycle.views(), caller_of(request)
        live = gateway.heartbeat.is_beating
        up = gateway.lifecycle.torchserve_up
        ready = live and is_ready(views, up)
        status = "ok" if ready else "loading" if live and _is_loading(views) else "unavailable"
        pending = gateway.settings.issues or gateway.lifecycle.failed_changes
        impaired = any(_has_failed(view) or view.unresponsive or view.replacing for view in views)
        detail = {
            "status": "degraded" if ready and (pending or impaired or not up) else status,
            "live": live,
            "ready": ready,
            "torchserve": up,
            "torchserve_fault": gateway.lifecycle.torchserve_fault,
            "settings": {"errors": [] if caller.is_restricted else [str(i) for i in gateway.settings.issues]},
            "failed_changes": [] if caller.is_restricted else gateway.lifecycle.failed_changes,
            "sets": [_set(view, name) for view in views if (name := _name_for(view, caller))],
        }
        return JsonResponse(detail, 200 if live else 503)

    @routes.get("/health/live")
    async def live() -> Response:
        """200 while the lifecycle loop beats."""
        live = gateway.heartbeat.is_beating
        return JsonResponse({"live": live}, 200 if live else 503)

    @routes.get("/health/ready")
    async def ready() -> Response:
        """200 once every resident set is READY or FAILED and at least one set can serve."""
        lifecycle = gateway.lifecycle
        ready = gateway.heartbeat.is_beating and is_ready(lifecycle.views(), lifecycle.torchserve_up)
        return JsonResponse({"ready": ready}, 200 if ready else 503)

    return routes


def _has_failed(view: WorkerSetView) -> bool:
    return view.state is State.FAILED


def _is_loading(views: Sequence[WorkerSetView]) -> bool:
    return any(view.state is State.LOADING for view in views)


def _name_for(view: WorkerSetView, caller: Caller) -> str | None:
    """The set's name, else its first row that the caller may use; None if it may use none."""
    slugs = [view.worker_set.name, *(row.slug for row in view.worker_set.rows)]
    return next((slug for slug in slugs if caller.may_use(slug)), None)


def _set(view: WorkerSetView, name: str) -> dict[str, Any]:
    return {
        "set": name,
        "state": view.state,
        "phase": view.phase,
        "progress": view.progress,
        "position": view.position,
        "unresponsive": view.unresponsive,
        "error": view.failure.message if view.failure else None,
        "retry_after_s": retry_after_s(view),
    }
