"""Origin of an MCP call: the HTTP request that carried it, its caller, and its client's disconnect.

A call without an HTTP request was made in this process, by the owner of the machine.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from starlette.requests import Request
from starlette.types import Message

from conductor_admin.auth.caller import OWNER, Caller, caller_of
from conductor_admin.http.responses import until_left
from handlers.wire import RequestError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Origin:
    """Origin of one call. `left` is set once the client has left, None if it cannot; `address` its host."""

    request_id: str
    caller: Caller
    left: asyncio.Event | None = None
    address: str | None = None

    async def while_there(self, work: Awaitable[T]) -> T:
        """Run `work`; cancel it and raise RequestError 499 once the client has left."""
        left = self.left
        if left is None:
            return await work

        async def disconnect() -> Message:
            await left.wait()
            return {"type": "http.disconnect"}

        result = await until_left(disconnect, work)
        if result is None:
            raise RequestError("the client has left", status=499, code="client_left")
        return result


_origin: ContextVar[Origin] = ContextVar("origin")


def origin() -> Origin:
    """The origin of the current call."""
    return _origin.get()


async def remember_origin(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware of the MCP server that sets `origin` for the handler of a message."""
    request, found = ctx.request, Origin(uuid.uuid4().hex, OWNER)
    if isinstance(request, Request):
        found = Origin(
            request.state.request_id,
            caller_of(request),
            getattr(request.state, "left", None),
            request.client.host if request.client else None,
        )
    token = _origin.set(found)
    try:
        return await call_next(ctx)
    finally:
        _origin.reset(token)
