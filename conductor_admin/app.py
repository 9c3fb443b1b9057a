"""The gateway's ASGI application: routes, failures and middleware put together."""

from __future__ import annotations

from fastapi import FastAPI

from conductor_admin import failures
from conductor_admin.gateway import Gateway
from conductor_admin.guard import Guard
from conductor_admin.openapi import describe_bodies
from conductor_admin.routes import admin, check, generate, health, models, predictions, stats


def create_app(gateway: Gateway) -> FastAPI:
    """The application over `gateway`, which somebody else starts and closes."""
    app = FastAPI(title="Conductor", version="0.1.0", docs_url=None, redoc_url=None)
    app.state.gateway = gateway
    for module in (generate, check, models, health, stats, admin, predictions):
        app.include_router(module.router(gateway))
    failures.install(app)
    describe_bodies(app)
    app.add_middleware(Guard, policy=gateway.policy)
    return app
