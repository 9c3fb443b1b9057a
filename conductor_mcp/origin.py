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
        if self.left is None:
            return await work
        result = await until_left(self._disconnect, work)
        if result is None:
            raise RequestError("the client has left", status=499, code="client_left")
        return result

    async def _disconnect(self) -> Message:
        assert self.left is not None
        await self.left.wait()
        return {"type": "http.disconnect"}


_origin: ContextVar[Origin] = ContextVar("origin")


def origin() -> Origin:
    """The origin of the current call."""
    return _origin.get()


async def remember_origin(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware of the MCP server that sets `origin` for the handler of a message."""
    token = _origin.set(_origin_of(ctx.request))
    try:
        return await call_next(ctx)
    finally:
        _origin.reset(token)


def _origin_of(request: object) -> Origin:
    if not isinstance(request, Request):
        return Origin(uuid.uuid4().hex, OWNER)
    return Origin(
        request.state.request_id,
        caller_of(request),
        getattr(request.state, "left", None),
        request.client.host if request.client else None,
    )
