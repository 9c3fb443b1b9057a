"""Callers of requests and their permissions. `conductor_admin.auth.access` makes them of keys.

Shapes and refusals only. A route that generates calls `plan(..., caller=caller_of(request))`, which checks
the category; `Dispatcher.run` checks the rest. A list of rows is `visible(catalogue, caller)`: other rows do
not exist for the caller, and no figure may reveal them. An MCP tool that acts on the gateway calls
`need_scope(caller, "admin")`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request

from conductor_core.catalogue import Catalogue, Row
from handlers.wire import RequestError

Scope = Literal["infer", "admin"]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Limits of a key: requests and tokens in any minute, generations at a time; None is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    streams: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a key; `key_id` None is the machine's owner, or anybody on a gateway without keys.

    `categories` None means all. `may_load` and `may_evict` say if a request for a set that is not loaded may
    load it, and may evict other sets for that. `name` is for people and for the audit log.
    """

    key_id: str | None = None
    name: str = "anyone"
    scopes: frozenset[Scope] = frozenset({"infer", "admin"})
    categories: frozenset[str] | None = None
    may_load: bool = True
    may_evict: bool = True
    rate_limit: RateLimit = RateLimit()

    @property
    def is_restricted(self) -> bool:
        """True if the caller may use and see only some categories."""
        return self.categories is not None

    @property
    def client(self) -> str:
        """Name of the client when places are shared: the public id of the key, never its text."""
        return self.key_id or self.name

    def may_use(self, slug: str) -> bool:
        """True if the caller may use the category."""
        return self.categories is None or slug in self.categories


ANYONE = Caller()
OWNER = Caller(name="owner")


def caller_of(request: Request) -> Caller:
    """The caller that `conductor_admin.auth.access` found."""
    found = getattr(request.state, "caller", ANYONE)
    assert isinstance(found, Caller)
    return found


def visible(catalogue: Catalogue, caller: Caller) -> tuple[Row, ...]:
    """The rows that the caller may use, in table order."""
    return tuple(row for row in catalogue.rows if caller.may_use(row.slug))


def need_scope(caller: Caller, scope: Scope) -> None:
    """Raise 403 `insufficient_scope` unless the caller has the scope."""
    if scope not in caller.scopes:
        raise RequestError(
            f"this request needs a key with the scope {scope}",
            status=403,
            type="permission_error",
            code="insufficient_scope",
        )
