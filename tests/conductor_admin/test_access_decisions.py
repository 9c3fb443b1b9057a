"""The middleware of access alone, around a stub: accounts, waits, records, and the request that passes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from starlette.datastructures import Headers
from starlette.routing import Mount, Route
from starlette.types import Message, Receive, Send
from starlette.types import Scope as AsgiScope

from conductor_admin.auth import access
from conductor_admin.auth.access import AuthMiddleware, RouteScope, route_scope_of, template_of
from conductor_admin.auth.audit import Act
from conductor_admin.auth.audit_writer import AuditWriter
from conductor_admin.auth.authenticator import Authenticator
from conductor_admin.auth.caller import ANYONE, Caller, RateLimit
from conductor_admin.auth.rate_limits import Quotas
from conductor_admin.http.fair_share import Account, FairShare
from conductor_admin.http.request_context import UNMATCHED, request_context
from handlers.wire import RequestError

INFER = Caller("key_i", "infer", frozenset({"infer"}), rate_limit=RateLimit(requests_per_minute=5))
ADMIN = Caller("key_a", "admin", frozenset({"admin"}), rate_limit=RateLimit(requests_per_minute=7))
NO_KEY = RequestError("no key", status=401, type="authentication_error", code="missing_api_key")
PEER = "192.0.2.7"


async def unused(*_: Any) -> None:
    """Endpoint of the routes, which only match here."""


ROUTES = [
    Route("/health/live", unused),
    Route("/models", unused),
    Route("/generate", unused, methods=["POST"]),
    Route("/admin/keys", unused, methods=["GET", "POST"]),
    Route("/admin/keys/{key}", unused, methods=["GET", "DELETE"]),
    Route("/admin/plan", unused, methods=["POST"]),
    Route("/undeclared", unused),
]


@dataclass
class World:
    """Everything around the middleware; it records what the middleware does."""

    caller: Caller | RequestError = NO_KEY
    caller_after_wait: Caller | RequestError | None = None
    is_open: bool = False
    has_to_wait: bool = False
    app: Callable[[AsgiScope, Receive, Send], Awaitable[None]] | None = None
    audit: list[tuple[Any, ...]] = field(default_factory=list)
    charged: list[tuple[str, bool]] = field(default_factory=list)
    turns: list[Account] = field(default_factory=list)
    seen: list[tuple[AsgiScope, Receive, Send]] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)
    running: asyncio.Timeout | None = None
    routes: list[str] = field(default_factory=list)

    async def ask(self, method: str, path: str, **more: Any) -> AsgiScope:
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "root_path": "",
            "headers": [(b"x-asked", b"yes")],
            "client": (PEER, 1),
            "state": {"request_id": "r1"},
            **more,
        }
        await self.middleware()(scope, self.receive, self.send)
        return scope

    def middleware(self) -> AuthMiddleware:
        return AuthMiddleware(
            self.route,
            ROUTES,
            cast(Authenticator, StubKeys(self)),
            Quotas(),
            cast(AuditWriter, StubAudit(self.audit)),
            cast(FairShare, StubShares(self)),
        )

    async def receive(self) -> Message:
        return {"type": "http.request"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        self.audit.append(("sent", message["type"]))

    async def route(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        self.seen.append((scope, receive, send))
        self.routes.append(request_context.get().route)
        self.audit.append(("ran",))
        await (self.app or answer)(scope, receive, send)

    @property
    def recorded(self) -> list[tuple[Any, ...]]:
        """Names and outcomes of all that was recorded, ran or was sent, in order."""
        return [(kind, *(one for one in rest if not isinstance(one, Act))) for kind, *rest in self.audit]

    @property
    def act(self) -> Act:
        (only,) = {one for line in self.audit for one in line if isinstance(one, Act)}
        return only


async def answer(scope: AsgiScope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})


@dataclass
class StubKeys:
    """Authenticator with one caller, who may be another one after a wait."""

    world: World

    @property
    def is_open(self) -> bool:
        return self.world.is_open

    def caller(self, headers: Headers) -> Caller:
        assert headers["x-asked"] == "yes"
        world = self.world
        found = world.caller_after_wait if world.turns and world.caller_after_wait else world.caller
        if isinstance(found, RequestError):
            raise found
        return found

    @contextlib.asynccontextmanager
    async def while_valid(self, caller: Caller) -> AsyncIterator[asyncio.Timeout]:
        assert caller == self.world.caller
        async with asyncio.timeout(None) as self.world.running:
            yield self.world.running


@dataclass
class StubAudit:
    """Audit log in memory."""

    lines: list[tuple[Any, ...]]

    async def begin(self, act: Act, *, revokes: bool = False) -> None:
        self.lines.append(("begin", act, revokes))

    async def end(self, act: Act, result: int, **details: Any) -> None:
        self.lines.append(("end", act, result, details))

    async def was_read(self, act: Act, result: int, **details: Any) -> None:
        self.lines.append(("read", act, result, details))

    async def refused(self, act: Act, result: int) -> None:
        self.lines.append(("refused", act, result))

    def end_later(self, act: Act, result: str) -> None:
        self.lines.append(("end later", act, result))


@dataclass
class StubShares:
    """Fair shares that let a request wait or not."""

    world: World

    @contextlib.contextmanager
    def charged(self, name: str, *, is_address: bool = False) -> Iterator[Account]:
        self.world.charged.append((name, is_address))
        yield Account(is_address, float, 0.0)

    async def turn(self, account: Account) -> bool:
        assert isinstance(account, Account)
        self.world.turns.append(account)
        return self.world.has_to_wait


async def refused(world: World, method: str, path: str, **more: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await world.ask(method, path, **more)
    assert not world.seen
    return caught.value


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_no_http_request_passes_as_it_is(kind: str) -> None:
    world = World()
    scope = {"type": kind}
    await world.middleware()(scope, world.receive, world.send)
    assert world.seen == [(scope, world.receive, world.send)]
    assert scope == {"type": kind}
    assert not world.charged


async def test_a_route_that_needs_nothing_gets_its_request_as_it_came() -> None:
    world = World()
    scope = await world.ask("GET", "/health/live")
    assert world.seen == [(scope, world.receive, world.send)]
    assert "caller" not in scope["state"]
    assert world.routes == ["/health/live"]


@pytest.mark.parametrize("caller", [INFER, ADMIN])
async def test_a_route_sees_its_caller_and_the_answer_its_limits(caller: Caller) -> None:
    world = World(caller)
    scope = await world.ask("GET", "/models")
    assert world.seen[0][:2] == (scope, world.receive)
    assert scope["state"]["caller"] is caller
    start, body = world.sent
    left = str(caller.rate_limit.requests_per_minute)
    assert (b"x-ratelimit-remaining-requests", left.encode()) in start["headers"]
    assert body == {"type": "http.response.body", "body": b"x"}
    assert world.recorded == [("ran",), ("sent", "http.response.start"), ("sent", "http.response.body")]


@pytest.mark.parametrize(
    ("path", "account"), [("/health/live", f"open {PEER}"), ("/models", f"refused {PEER}")]
)
async def test_an_address_without_a_key_pays_for_probes_and_refusals_apart(path: str, account: str) -> None:
    world = World()
    with contextlib.suppress(RequestError):
        await world.ask("GET", path)
    assert world.charged == [(account, True)]


@pytest.mark.parametrize("client", [None, ("", 0)])
async def test_a_client_without_an_address_is_an_account_too(client: tuple[str, int] | None) -> None:
    world = World()
    await refused(world, "GET", "/models", client=client)
    assert world.charged == [("refused ", True)]


async def test_a_key_pays_by_its_id_also_where_its_scope_is_refused() -> None:
    world = World(INFER)
    await world.ask("GET", "/models")
    assert (await refused(World(INFER), "GET", "/admin/keys")).status == 403
    assert world.charged == [("key_i", False)]


async def test_only_operators_never_wait() -> None:
    for caller, count in ((ADMIN, 0), (INFER, 1), (ANYONE, 0)):
        world = World(caller, has_to_wait=True)
        await world.ask("GET", "/models")
        assert len(world.turns) == count
    world = World(has_to_wait=True)
    await world.ask("GET", "/health/live")
    assert len(world.turns) == 1


async def test_a_key_that_was_revoked_while_its_request_waited_is_refused() -> None:
    world = World(INFER, NO_KEY, has_to_wait=True)
    assert await refused(world, "GET", "/models") is NO_KEY
    world = World(INFER, NO_KEY, has_to_wait=False)
    await world.ask("GET", "/models")
    assert world.seen


@pytest.mark.parametrize(
    ("caller", "method", "path", "code"),
    [
        (NO_KEY, "GET", "/models", "missing_api_key"),
        (NO_KEY, "GET", "/no/such/path", "missing_api_key"),
        (NO_KEY, "POST", "/generate", "missing_api_key"),
        (NO_KEY, "GET", "/undeclared", "missing_api_key"),
        (ADMIN, "POST", "/generate", "insufficient_scope"),
        (INFER, "GET", "/undeclared", "route_not_declared"),
        (ADMIN, "GET", "/undeclared", "route_not_declared"),
    ],
)
async def test_a_refusal_outside_the_operators_routes_is_not_recorded(
    caller: Caller | RequestError, method: str, path: str, code: str
) -> None:
    world = World(caller)
    assert (await refused(world, method, path)).code == code
    assert not world.audit


async def test_a_refusal_of_an_operators_route_is_recorded_with_its_status() -> None:
    world = World(NO_KEY)
    assert await refused(world, "POST", "/admin/keys") is NO_KEY
    assert world.recorded == [("refused", 401)]
    assert world.act == Act("unknown", "POST /admin/keys", PEER, "r1", None)
    world = World(INFER)
    assert (await refused(world, "GET", "/admin/keys", client=None)).status == 403
    assert world.recorded == [("refused", 403)]
    assert world.act == Act("infer", "GET /admin/keys", None, "r1", "key_i")


async def test_a_route_that_the_table_lacks_is_refused_unless_the_gateway_is_open() -> None:
    error = await refused(World(ADMIN), "GET", "/undeclared")
    assert (error.status, error.type, error.code) == (403, "permission_error", "route_not_declared")
    assert error.message == "this route has no entry in the scope table"
    world = World(ANYONE, is_open=True)
    await world.ask("GET", "/undeclared")
    assert world.seen


STARTED = ("sent", "http.response.start")
SENT = (STARTED, ("sent", "http.response.body"))


@pytest.mark.parametrize(
    ("method", "path", "revokes"),
    [
        ("POST", "/admin/keys", False),
        ("DELETE", "/admin/keys/k", True),
    ],
)
async def test_a_change_is_recorded_before_it_runs_and_its_outcome_before_it_is_told(
    method: str, path: str, revokes: bool
) -> None:
    world = World(ADMIN)
    scope = await world.ask(method, path)
    assert world.seen[0][:2] == (scope, world.receive)
    assert world.recorded == [("begin", revokes), ("ran",), ("end", 201, {}), *SENT]
    assert world.act == Act("admin", f"{method} {path}", PEER, "r1", "key_a")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/keys"),
        ("HEAD", "/admin/keys"),
        ("GET", "/admin/keys/k"),
        ("POST", "/admin/plan"),
        ("PUT", "/admin/keys"),
    ],
)
async def test_a_look_is_recorded_as_one_when_it_is_answered(method: str, path: str) -> None:
    world = World(ADMIN)
    await world.ask(method, path)
    assert world.recorded == [("ran",), ("read", 201, {}), *SENT]
    assert world.act.action == f"{method} {path}"


async def test_what_a_route_tells_of_its_action_is_in_the_record() -> None:
    async def renames(scope: AsgiScope, receive: Receive, send: Send) -> None:
        scope["state"]["audited"] = {"name": "new"}
        await answer(scope, receive, send)

    world = World(ADMIN, app=renames)
    await world.ask("POST", "/admin/keys")
    assert ("end", 201, {"name": "new"}) in world.recorded


async def test_an_answer_is_recorded_once_and_gets_the_limits() -> None:
    async def twice(scope: AsgiScope, receive: Receive, send: Send) -> None:
        await answer(scope, receive, send)
        raise RequestError("late", status=500)

    world = World(ADMIN, app=twice)
    with pytest.raises(RequestError, match="late"):
        await world.ask("POST", "/admin/keys")
    assert world.recorded == [("begin", False), ("ran",), ("end", 201, {}), *SENT]
    assert (b"x-ratelimit-limit-requests", b"7") in world.sent[0]["headers"]


@pytest.mark.parametrize(("method", "kind"), [("POST", "end"), ("GET", "read")])
async def test_an_action_that_is_refused_is_recorded_with_its_status(method: str, kind: str) -> None:
    async def refuses(scope: AsgiScope, receive: Receive, send: Send) -> None:
        raise RequestError("no", status=409)

    world = World(ADMIN, app=refuses)
    with pytest.raises(RequestError, match="no"):
        await world.ask(method, "/admin/keys")
    assert world.recorded[-1] == (kind, 409, {})


async def breaks(scope: AsgiScope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError


async def breaks_after_its_answer(scope: AsgiScope, receive: Receive, send: Send) -> None:
    await answer(scope, receive, send)
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("method", "app", "recorded"),
    [
        ("POST", breaks, [("begin", False), ("ran",), ("end later", "broken off")]),
        ("GET", breaks, [("ran",)]),
        ("POST", breaks_after_its_answer, [("begin", False), ("ran",), ("end", 201, {}), *SENT]),
    ],
)
async def test_a_change_that_breaks_before_its_answer_is_recorded_as_broken_off(
    method: str, app: Any, recorded: list[tuple[Any, ...]]
) -> None:
    world = World(ADMIN, app=app)
    with pytest.raises(ZeroDivisionError):
        await world.ask(method, "/admin/keys")
    assert world.recorded == recorded


def revoked_during(world: World, *, after_start: bool) -> Any:
    """A route that sends the beginning of its answer or nothing, and is then ended by a revocation."""

    async def route(scope: AsgiScope, receive: Receive, send: Send) -> None:
        if after_start:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        assert world.running
        world.running.reschedule(asyncio.get_running_loop().time())
        await asyncio.Event().wait()

    return route


async def test_a_key_that_ends_before_the_answer_gets_a_401() -> None:
    world = World(INFER)
    world.app = revoked_during(world, after_start=False)
    with pytest.raises(RequestError) as caught:
        await world.ask("POST", "/generate")
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    assert caught.value.__suppress_context__


async def test_a_key_that_ends_within_an_answer_leaves_it_incomplete() -> None:
    world = World(INFER)
    world.app = revoked_during(world, after_start=True)
    await world.ask("POST", "/generate")
    assert [message["type"] for message in world.sent] == ["http.response.start"]


async def test_a_timeout_of_the_route_itself_is_no_revocation() -> None:
    async def slow(scope: AsgiScope, receive: Receive, send: Send) -> None:
        raise TimeoutError("of the route")

    with pytest.raises(TimeoutError, match="of the route"):
        await World(INFER, app=slow).ask("POST", "/generate")


def http(method: str, path: str) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}


def test_a_request_has_the_template_of_the_first_route_that_answers_it() -> None:
    routes = [
        Route("/a/{x}", unused, methods=["GET"]),
        Route("/a/b", unused, methods=["DELETE"]),
        Route("/{x}/b", unused, methods=["POST"]),
    ]
    assert template_of(routes, http("GET", "/a/b")) == "/a/{x}"
    assert template_of(routes, http("POST", "/a/b")) == "/{x}/b"
    assert template_of(routes, http("PUT", "/a/b")) == "/a/{x}", "the first of those that lack the method"
    assert template_of(routes, http("GET", "/c")) == UNMATCHED
    assert template_of([Mount("/assets", unused)], http("GET", "/assets/x")) == "/assets"


def test_a_route_without_a_path_has_no_entry() -> None:
    class Odd(Route):
        """Route that has no path, as one of a library may be."""

        def __init__(self) -> None:
            super().__init__("/odd", unused)
            del self.path

    template = template_of([Odd()], http("GET", "/odd"))
    assert template == ""
    assert route_scope_of(template) == "decision"


@pytest.mark.parametrize(
    ("template", "need"),
    [(UNMATCHED, "key"), ("/no/such/route", "decision"), ("/models", "key"), ("/generate", "infer")],
)
def test_the_need_of_a_route_is_that_of_the_table(template: str, need: RouteScope) -> None:
    assert route_scope_of(template) == need


def test_the_tables_of_access_name_routes_with_a_scope() -> None:
    assert access.REVOKES[1] in access.ROUTE_SCOPES
    assert access.ROUTE_SCOPES.keys() >= access.LOOKS_BY_POST
    assert {access.ROUTE_SCOPES[route] for route in access.LOOKS_BY_POST} == {"admin"}
