"""`GET /models` and `GET /models/{category}`: every row and the state of the worker set behind it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from archives.weights_info import in_tenths
from conductor_admin.api.routing import new_router
from conductor_admin.api.schemas import ModelAnswer, ModelsAnswer, ModelWithOptions, RowMemory, WorkerAnswer
from conductor_admin.auth.caller import Caller, caller_of, visible
from conductor_admin.gateway import Gateway
from conductor_admin.lifecycle.worker_sets import WorkerSetView
from conductor_admin.memory.accounting import corrected_cell
from conductor_admin.planner import find_row
from conductor_admin.telemetry.trace import Trace
from conductor_core.catalogue import Row
from handlers.engines.registry import engine_class


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = new_router()

    @routes.get("/models")
    async def models(request: Request) -> ModelsAnswer:
        """All rows that the caller may use, in table order, and the names of the personas."""
        rows = visible(gateway.catalogue, caller_of(request))
        shown = [model_answer(gateway, row, caller_of(request)) for row in rows]
        return ModelsAnswer(models=shown, personas=list(gateway.catalogue.personas))

    @routes.get("/models/{category}")
    async def model(category: str, request: Request) -> ModelWithOptions:
        """One row, and as JSON Schema the `options` that its engine takes."""
        row = find_row(gateway.catalogue, category, caller_of(request))
        told = model_answer(gateway, row, caller_of(request))
        return ModelWithOptions(**dict(told), options=options_of(row.engine))

    return routes


@cache
def options_of(engine: str) -> dict[str, Any]:
    """JSON Schema of the `options` of an engine, by their names in a request."""
    return engine_class(engine).options_type.model_json_schema()


def model_answer(gateway: Gateway, row: Row, caller: Caller) -> ModelAnswer:
    """One row and its set, without names and figures of rows that the caller may not use."""
    view = seen_by(caller, gateway.lifecycle.view(row.slug), gateway.telemetry.traces.running())
    served = view.row(row.slug)
    peak = (view.peak or 0) // view.worker_set.workers
    shared = [other.slug for other in view.worker_set.rows if other.slug != row.slug]
    return ModelAnswer(
        category=row.slug,
        name=row.category,
        state=view.state,
        phase=view.phase,
        progress=view.progress,
        model=served.model,
        technical_model_name=served.technical_model_name,
        precision=served.precision_word,
        runtime=view.worker_set.runtime,
        device=view.device,
        context=view.context,
        contexts_in_cache=in_tenths(view.contexts),
        engine=row.engine,
        converses=engine_class(row.engine).converses,
        version=view.version,
        stay_loaded=row.stay_loaded.value,
        vram_requirement=served.vram_requirement,
        memory=RowMemory(
            declared=served.declared_memory,
            estimated=view.estimated,
            measured=view.measured,
            peak=view.peak,
            correction=corrected_cell(served.declared_memory, peak, served.precision_word),
        ),
        workers=[
            WorkerAnswer(pid=one.pid, state=one.condition, in_flight=one.in_flight, waiting=one.waiting)
            for one in view.workers
        ],
        in_flight=view.in_flight,
        position=view.position,
        queue=view.queue,
        eta_s=None if view.eta_s is None else round(view.eta_s, 1),
        set=view.worker_set.name if caller.may_use(view.worker_set.name) else row.slug,
        shared_with=[slug for slug in shared if caller.may_use(slug)],
        last_used=view.last_used,
        expires_at=view.expires_at,
        last_error=view.failure.message if view.failure else None,
        retry_after_s=retry_after_s(view),
    )


def seen_by(caller: Caller, view: WorkerSetView, running: Iterable[Trace]) -> WorkerSetView:
    """Reduce the view to the use by the caller's own categories, if the set serves others too."""
    if all(caller.may_use(row.slug) for row in view.worker_set.rows):
        return view
    own = Counter(t.workers[-1] for t in running if t.workers and caller.may_use(t.job.row.slug))
    workers = (
        replace(one, in_flight=own[one.pid], waiting=min(one.waiting, own[one.pid])) for one in view.workers
    )
    return replace(view, workers=tuple(workers), last_used=None, expires_at=None)


def retry_after_s(view: WorkerSetView) -> float | None:
    """Seconds until a failed set may be tried again; None if it has not failed."""
    return round(max(0.0, view.failure.until - time.monotonic()), 1) if view.failure else None
