"""Authorisation: the table of scopes that routes need, and the middleware that enforces it.

Knows routes by their templates and the caller by its key; each route checks by itself what the caller may do
inside it. A route that the table lacks is refused unless the gateway has no keys, and a test reports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from conductor_admin.auth.audit import Act
from conductor_admin.auth.audit_writer import AuditWriter
from conductor_admin.auth.authenticator import Authenticator, invalid_key
from conductor_admin.auth.caller import Caller, need_scope
from conductor_admin.auth.rate_limits import Quotas
from conductor_admin.http.fair_share import Account, FairShare, open_account, refused_account
from conductor_admin.http.request_context import UNMATCHED, arrived_for
from handlers.wire import RequestError

RouteScope = Literal["nothing", "key", "infer", "admin", "decision"]
"""Need of a route: nothing, any key, a key with that scope, or `decision`: the table lacks the route."""

ROUTE_SCOPES: Mapping[str, RouteScope] = {
    "/health/live": "nothing",
    "/health/ready": "nothing",
    "/ping": "nothing",
    "/": "nothing",  # the page asks for a key itself, for what it then calls
    "/docs": "nothing",  # it reads /openapi.json with the key of the page
    "/assets/{file}": "nothing",
    "/health": "key",
    "/stats": "key",
    "/metrics": "key",
    "/requests": "admin",
    "/requests/{request_id}": "key",  # of another key it is a 404
    "/openapi.json": "key",
    "/models": "key",
    "/models/{category}": "key",
    "/generate": "infer",
    "/generate/stream": "infer",
    "/check": "infer",
    "/predictions/{category}": "infer",
    "/predictions/{category}/{version}": "infer",
    "/predictions/{category}/{version}/{engine}": "infer",
    "/v1/models": "key",
    "/v1/models/{model:path}": "key",
    "/v1/chat/completions": "infer",
    "/v1/completions": "infer",
    "/v1/embeddings": "infer",
    "/v1/responses": "infer",
    "/mcp": "key",  # each tool asks for its own scope
    "/mcp/": "key",
    "/sessions": "infer",
    "/sessions/{session_id}": "infer",
    "/admin/models/{category}/load": "admin",
    "/admin/models/{category}/unload": "admin",
    "/admin/plan": "admin",
    "/admin/reload": "admin",
    "/admin/keys": "admin",
    "/admin/keys/{key}": "admin",
}

LOOKS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

LOOKS_BY_POST = frozenset({"/admin/plan"})
"""Admin routes that change nothing with any method; other changes are recorded before they run."""

REVOKES = ("DELETE", "/admin/keys/{key}")
"""The only action that runs even if its audit line cannot be written at once."""


class AuthMiddleware:
    """Middleware around the router, whose `routes` it shares; sets `scope["state"]["caller"]`."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[BaseRoute],
        keys: Authenticator,
        quotas: Quotas,
        audit: AuditWriter,
        shares: FairShare,
    ) -> None:
        self._app = app
        self._routes = routes
        self._keys = keys
        self._quotas = quotas
        self._audit = audit
        self._shares = shares

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Let the request pass, or raise RequestError 401 or 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        template = template_of(self._routes, scope)
        arrived_for(template)
        need = route_scope_of(template)
        caller, refusal = self._identify(need, scope)
        with self._charged(caller, need, scope) as account:
            # Those with the right to operate never wait: they must be able to end a flood.
            is_operator = caller is not None and "admin" in caller.scopes
            if not is_operator and await self._shares.turn(account):
                caller, refusal = self._identify(need, scope)  # the key may have been revoked meanwhile
            if refusal is not None:
                if need == "admin":
                    await self._audit.refused(_act(scope), refusal.status)
                raise refusal
            if caller is None:
                await self._app(scope, receive, send)
            elif need == "admin":
                await self._administer(template, caller, scope, receive, send)
            else:
                await self._pass(caller, scope, receive, send)

    def _identify(self, need: RouteScope, scope: AsgiScope) -> tuple[Caller | None, RequestError | None]:
        """The caller, None if there is none or none is needed, and the error 401 or 403 that refuses it."""
        if need == "nothing":
            return None, None
        try:
            caller = self._keys.caller(Headers(scope=scope))
        except RequestError as error:
            return None, error
        scope["state"]["caller"] = caller
        try:
            _check(caller, need, is_open=self._keys.is_open)
        except RequestError as error:
            return caller, error
        return caller, None

    def _charged(
        self, caller: Caller | None, need: RouteScope, scope: AsgiScope
    ) -> AbstractContextManager[Account]:
        if caller is not None:
            return self._shares.charged(caller.client)
        # Two accounts for an address: who is refused there may not keep others from the page and the probes.
        address = (scope.get("client") or ("",))[0]
        name = open_account(address) if need == "nothing" else refused_account(address)
        return self._shares.charged(name, is_address=True)

    async def _pass(self, caller: Caller, scope: AsgiScope, receive: Receive, send: Send) -> None:
        answer = _Answer(self._quotas, caller, send)
        try:
            async with self._keys.while_valid(caller) as valid:
                await self._app(scope, receive, answer.send)
        except TimeoutError:
            if not valid.expired():
                raise
            if not answer.has_begun:
                raise invalid_key() from None
            # The answer stays incomplete: the server closes the connection.

    async def _administer(
        self, template: str, caller: Caller, scope: AsgiScope, receive: Receive, send: Send
    ) -> None:
        """Record an operator's action before it runs, and its outcome before the answer is sent."""
        act, changes = _act(scope), self._changes(template, scope)
        if changes:
            await self._audit.begin(act, revokes=(scope["method"], template) == REVOKES)
        record = self._audit.end if changes else self._audit.was_read
        is_recorded = False

        async def ends(status: int) -> None:
            nonlocal is_recorded
            if not is_recorded:
                is_recorded = True
                await record(act, status, **scope["state"].get("audited", {}))

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                await ends(int(message["status"]))
            await send(message)

        try:
            await self._pass(caller, scope, receive, send_recorded)
        except RequestError as error:
            await ends(error.status)
            raise
        except BaseException:
            if changes and not is_recorded:
                self._audit.end_later(act, "broken off")
            raise

    def _changes(self, template: str, scope: AsgiScope) -> bool:
        """True if the request may change something; a method that the route lacks changes nothing."""
        route = matching_route(self._routes, scope)
        answers = route is not None and route.matches(scope)[0] is Match.FULL
        return answers and scope["method"] not in LOOKS and template not in LOOKS_BY_POST


class _Answer:
    """Adds headers with the caller's remaining rate limits to an answer."""

    def __init__(self, quotas: Quotas, caller: Caller, send: Send) -> None:
        self.has_begun = False
        self._quotas = quotas
        self._caller = caller
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            MutableHeaders(scope=message).update(self._quotas.headers(self._caller))
        await self._send(message)


def _act(scope: AsgiScope) -> Act:
    caller = scope["state"].get("caller")
    return Act(
        who=caller.name if caller else "unknown",
        action=f"{scope['method']} {scope['path']}",
        source=(scope.get("client") or (None,))[0],
        request_id=scope["state"].get("request_id"),
        key_id=caller.key_id if caller else None,
    )


def template_of(routes: Sequence[BaseRoute], scope: AsgiScope) -> str:
    """The template of the route that the router will choose, or `UNMATCHED`."""
    route = matching_route(routes, scope)
    return UNMATCHED if route is None else str(getattr(route, "path", ""))


def route_scope_of(template: str) -> RouteScope:
    """Need of the route with that template; an unmatched path needs a key for its 404."""
    return "key" if template == UNMATCHED else ROUTE_SCOPES.get(template, "decision")


def matching_route(routes: Sequence[BaseRoute], scope: AsgiScope) -> BaseRoute | None:
    """The route that the router itself will choose, so that both read every path alike."""
    partial: BaseRoute | None = None
    for route in routes:
        match, _ = route.matches(scope)
        if match is Match.FULL:
            return route
        if match is Match.PARTIAL and partial is None:
            partial = route
    return partial


def _check(caller: Caller, need: RouteScope, *, is_open: bool) -> None:
    if need in ("infer", "admin"):
        need_scope(caller, need)
    elif need == "decision" and not is_open:
        raise RequestError(
            "this route has no entry in the scope table",
            status=403,
            type="permission_error",
            code="route_not_declared",
        )
