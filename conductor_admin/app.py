"""The gateway's ASGI application: routes, failures and middleware put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from conductor_admin.api import torchserve
from conductor_admin.api.errors import query_error
from conductor_admin.api.native import (
    admin,
    generate,
    health,
    keys,
    metrics,
    models,
    page,
    requests,
    sessions,
    stats,
)
from conductor_admin.api.openai import routes as openai
from conductor_admin.api.openapi import describe
from conductor_admin.auth.access import AuthMiddleware
from conductor_admin.auth.keys import KeyBody, KeyRules
from conductor_admin.gateway import Gateway
from conductor_admin.http import responses
from conductor_admin.http.body_budget import BodyBudget
from conductor_admin.http.body_gate import BodyGate
from conductor_admin.http.middleware import RequestMiddleware
from conductor_admin.http.responses import JsonResponse
from conductor_admin.sessions.models import SessionChange
from handlers.wire import GenerateBody

_ALWAYS = (health, metrics)
_BODIES: tuple[type[BaseModel], ...] = (
    GenerateBody,
    generate.CheckBody,
    SessionChange,
    KeyBody,
    KeyRules,
)
_ELSE = (generate, models, stats, requests, admin, keys, torchserve, sessions, page)

# Else each GET /health would be a span; `conductor_admin.telemetry.spans` makes those of generations.
_NO_SPANS_OF_ITS_OWN: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}


def create_app(gateway: Gateway, more: Sequence[BaseRoute] = (), *, mcp_only: bool = False) -> FastAPI:
    """Build the application over `gateway`; the caller starts and closes the gateway.

    `more` are routes of packages above this one; `mcp_only` serves only those, health and metrics.
    """
    app = FastAPI(
        title="Conductor",
        version="0.1.0",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry=_NO_SPANS_OF_ITS_OWN,
    )
    app.state.gateway = gateway
    app.router.routes.extend(more)
    for module in _ALWAYS if mcp_only else (*_ALWAYS, *_ELSE):
        # Not `include_router`, which would hide each route's template from the table of `access`.
        app.router.routes.extend(module.router(gateway).routes)
    if not mcp_only:
        app.router.routes.extend(openai.all_routes(gateway))
    responses.install(app)
    app.add_exception_handler(RequestValidationError, query_error)
    describe(app, (*_BODIES, *openai.BODIES))
    app.add_middleware(BodyGate, budget=BodyBudget())
    if not mcp_only:
        app.router.routes.append(Route("/openapi.json", partial(_document, app), include_in_schema=False))
    app.add_middleware(
        AuthMiddleware,
        routes=app.router.routes,
        keys=gateway.keys,
        quotas=gateway.dispatcher.quotas,
        audit=gateway.audit,
        shares=gateway.shares,
    )
    app.add_middleware(
        RequestMiddleware,
        policy=gateway.policy,
        answered=gateway.telemetry.metrics.answered,
        shares=gateway.shares,
    )
    return app


async def _document(app: FastAPI, request: Request) -> Response:
    # In a thread: the first call takes a second.
    return JsonResponse(await asyncio.to_thread(app.openapi))
