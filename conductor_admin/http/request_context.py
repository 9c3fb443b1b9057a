"""Context of the current request: its route, host, and the trace headers of its client.

The middleware makes a RequestContext for each request; `conductor_admin.auth.access` adds its route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from starlette.datastructures import Headers

UNMATCHED = "unmatched"
"""Name for requests without a route, so that no client's path becomes a metric label."""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """`host` is the name by which the gateway was called; `carrier` has the client's W3C trace headers."""

    route: str = UNMATCHED
    host: str = ""
    carrier: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, headers: Headers) -> RequestContext:
        """Make the arrival of a request with these headers; its route is not known yet."""
        carrier = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        return cls(host=headers.get("host", ""), carrier=carrier)


INTERNAL = RequestContext(route="internal")
request_context: ContextVar[RequestContext] = ContextVar("arrival", default=INTERNAL)

_routes: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()


def arrived_for(template: str) -> None:
    """Record the route of the request that the current task handles."""
    request_context.set(replace(request_context.get(), route=template))
    if (task := asyncio.current_task()) is not None:
        _routes[task] = template


def route_of(task: asyncio.Task[Any]) -> str | None:
    """The route of the request that `task` handles, None if it handles none. Callable from any thread."""
    return _routes.get(task)
