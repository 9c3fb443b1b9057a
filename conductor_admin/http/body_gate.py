"""ASGI middleware for request bodies: limits size, pace, and the share of memory for all bodies.

Runs after authentication, so that a client without a key takes no memory. Knows nothing of a body's content.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conductor_admin.http.body_budget import BodyBudget, BodyShare
from conductor_admin.http.body_limits import limit_of
from conductor_admin.http.request_context import request_context
from handlers.cpu_account import charge
from handlers.wire import RequestError

BODY_S = 300.0
"""Seconds in which a body has to be complete."""

BYTE_S = 1e-9
"""Processor time for receiving a byte outside the request's task. An estimate: with it a body of 8 MB is
charged 30.6 ms of the 31 ms that were measured for the process."""

PACE_BYTES = 16 * 2**10
PACE_S = 20.0
"""Seconds in which PACE_BYTES or the end of the body have to come."""


class BodyGate:
    """The middleware; the route that `access` has found sets the limit."""

    def __init__(self, app: ASGIApp, budget: BodyBudget) -> None:
        self._app = app
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; refuse its body by the announced length or while it is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = limit_of(request_context.get().route)
        _check_length(Headers(scope=scope), limit)
        caller = scope.get("state", {}).get("caller")
        with self._budget.share(caller.key_id if caller else None) as share:
            await self._app(scope, _Body(receive, limit, share).receive, send)


class _Body:
    """One body while it is received; wraps ASGI's `receive`."""

    def __init__(self, receive: Receive, limit: int, share: BodyShare) -> None:
        self._receive = receive
        self._limit = limit
        self._share = share
        self._is_whole = False
        self._size = 0
        self._waited = 0.0
        self._pace_waited = 0.0
        self._pace_size = 0

    async def receive(self) -> Message:
        if self._is_whole:
            return await self._receive()
        message = await self._in_time(self._receive)
        size = len(message.get("body", b""))
        self._size += size
        self._is_whole = message["type"] != "http.request" or not message.get("more_body", False)
        if self._size > self._limit:
            raise _too_large(self._limit)
        self._share.take(size)
        charge(size * BYTE_S)
        self._pace_size += size
        if self._pace_size >= PACE_BYTES:
            self._pace_size, self._pace_waited = 0, 0.0
        return message

    async def _in_time(self, receive: Callable[[], Awaitable[Message]]) -> Message:
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            async with asyncio.timeout(min(BODY_S - self._waited, PACE_S - self._pace_waited)):
                return await receive()
        except TimeoutError as error:
            raise _too_slow(self._waited + clock() - begun >= BODY_S) from error
        finally:
            self._waited += clock() - begun
            self._pace_waited += clock() - begun


def _check_length(headers: Headers, limit: int) -> None:
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length[:20]) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> RequestError:
    return RequestError(f"the body has more than {limit} bytes", status=413, code="body_too_large")


def _too_slow(is_whole_time: bool) -> RequestError:
    message = (
        f"the body did not arrive within {BODY_S:g} s"
        if is_whole_time
        else f"less than {PACE_BYTES} bytes of the body arrived in {PACE_S:g} s"
    )
    return RequestError(message, status=408, code="request_timeout")
