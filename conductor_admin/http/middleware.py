"""ASGI middleware of every request: request id, access log, Host and Origin checks, answer to any error.

Knows HTTP only. Host, Origin and Sec-Fetch-Site are checked because a page of any site can reach a loopback
port.
"""

from __future__ import annotations

import ipaddress
import re
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import cast

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conductor_admin.http.fair_share import FairShare
from conductor_admin.http.request_context import RequestContext, request_context
from conductor_admin.http.responses import error_response, failure_of
from conductor_core.files import fault, is_fault_of_files
from conductor_core.operator import LOOPBACK
from handlers.wire import RequestError

log = structlog.get_logger()

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = frozenset({"/health", "/health/live", "/health/ready", "/ping", "/metrics"})
_SINGLE = (
    "origin",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "sec-fetch-site",
    "sec-fetch-mode",
    "sec-fetch-dest",
)
"""Headers that may not be repeated; the authenticator refuses repeated credentials."""
_LEFT = 499  # status of a request whose client disconnected before the answer


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """Names by which this gateway may be called; `any_address` also allows every literal address.

    DNS cannot rebind a literal address, so a gateway on all interfaces may accept any.
    """

    names: Collection[str] = LOOPBACK
    any_address: bool = False

    def allows(self, authority: str) -> bool:
        """True if `authority` (host, with or without a port) names this gateway."""
        host = _host_of(authority)
        return host is not None and (host in self.names or (self.any_address and _is_address(host)))


def _host_of(authority: str) -> str | None:
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?", authority):
        return None
    host = authority.rpartition("]")[0][1:] if authority.startswith("[") else authority.partition(":")[0]
    return host.lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def check_source(
    headers: Headers, policy: HostPolicy, method: str = "GET", authority: str | None = None
) -> None:
    """Raise RequestError for repeated headers, a foreign Host, or a page of another origin.

    `authority` is the host in the request's target, None if the target is a path.
    """
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not policy.allows(hosts[0]):
        raise RequestError("the Host header does not name this server", status=421, code="host_not_allowed")
    if authority is not None and authority.lower() != hosts[0].lower():
        raise RequestError(
            "the request target and the Host header name different hosts", status=421, code="host_not_allowed"
        )
    for name in _SINGLE:
        if len(headers.getlist(name)) > 1:
            raise RequestError(f"there must be only one header {name}", code="repeated_header")
    if headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
        # A body with another encoding would be read as if it had none.
        raise RequestError(
            "the only supported transfer-encoding is chunked",
            param="transfer-encoding",
            code="invalid_transfer_encoding",
        )
    if not _is_own_page(headers, hosts[0], method):
        raise RequestError("requests from other origins are refused", status=403, code="origin_not_allowed")


def _is_own_page(headers: Headers, host: str, method: str) -> bool:
    """False if the browser's headers show that a page of another origin has sent the request.

    Another port of the same machine is another origin. Links to this gateway are allowed from anywhere.
    """
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
        return False
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return is_link and method in ("GET", "HEAD")


class RequestMiddleware:
    """The middleware; puts the request id into `scope["state"]["request_id"]` and every log line."""

    def __init__(
        self, app: ASGIApp, policy: HostPolicy, answered: Callable[[str, int], None], shares: FairShare
    ) -> None:
        """`answered` gets the route's template and the status of each request."""
        self._app = app
        self._policy = policy
        self._answered = answered
        self._shares = shares

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "websocket":
            # No route here is a websocket; a mounted application that has one would need a rule of its own.
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answered = _Answered(_request_id(headers), send)
        scope.setdefault("state", {})["request_id"] = answered.request_id
        token = request_context.set(RequestContext.of(headers))
        with structlog.contextvars.bound_contextvars(request_id=answered.request_id):
            start = time.monotonic()
            try:
                await self._handle(scope, headers, receive, answered)
            finally:
                self._answered(request_context.get().route, answered.status or _LEFT)
                request_context.reset(token)
                _log_access(scope, answered.status, time.monotonic() - start)

    async def _handle(self, scope: Scope, headers: Headers, receive: Receive, answered: _Answered) -> None:
        try:
            try:
                check_source(headers, self._policy, scope["method"], scope["state"].get("authority"))
            except RequestError:
                await self._shares.refusing((scope.get("client") or ("",))[0])
                raise
            await self._app(scope, receive, answered.send)
        except RequestError as error:
            await error_response(error)(scope, receive, answered.send)
        except Exception as error:  # the outermost loop: a defect becomes a log entry and a plain refusal
            _log_failure(error, scope["path"])
            if answered.status is not None:
                raise
            await error_response(failure_of(error))(scope, receive, answered.send)


def _log_failure(error: Exception, path: str) -> None:
    if isinstance(error, OSError) and is_fault_of_files(error):
        log.error("storage_failed", path=path, cause=fault(error))
    else:
        log.exception("request_failed", path=path)


class _Answered:
    """Adds the request id to the answer and remembers its status."""

    def __init__(self, request_id: str, send: Send) -> None:
        self.request_id = request_id
        self.status: int | None = None
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = cast(int, message["status"])
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            if self.status == 401:
                headers["www-authenticate"] = "Bearer"
        await self._send(message)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex


def _log_access(scope: Scope, status: int | None, seconds: float) -> None:
    write = log.debug if scope["path"] in _QUIET else log.info
    write(
        "request",
        method=scope["method"],
        path=scope["path"][:200],
        status=status,
        seconds=round(seconds, 4),
        client=(scope.get("client") or (None,))[0],
    )
