"""The gateway's ASGI application: routes, failures and middleware put together."""

from __future__ import annotations

from fastapi import FastAPI

from conductor_admin import failures
from conductor_admin.access import Access
from conductor_admin.gateway import Gateway
from conductor_admin.guard import Guard
from conductor_admin.openapi import describe_bodies
from conductor_admin.routes import admin, check, generate, health, keys, models, predictions, sessions, stats


def create_app(gateway: Gateway) -> FastAPI:
    """The application over `gateway`, which somebody else starts and closes."""
    app = FastAPI(title="Conductor", version="0.1.0", docs_url=None, redoc_url=None)
    app.state.gateway = gateway
    for module in (generate, check, models, health, stats, admin, keys, predictions, sessions):
        # Not `include_router`, which would hide each route's template from the table of `access`.
        app.router.routes.extend(module.router(gateway).routes)
    failures.install(app)
    describe_bodies(app)
    app.add_middleware(
        Access,
        routes=app.router.routes,
        keys=gateway.keys,
        quotas=gateway.generations.quotas,
        audit=gateway.audit,
    )
    app.add_middleware(Guard, policy=gateway.policy)
    return app
