"""Who asks, and what they may do. Shapes only: keys become callers in one place, routes read them here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request

Scope = Literal["infer", "admin"]


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a key; `key_id` None is somebody on a gateway without keys, who may do everything.

    `categories` None means every one. `may_load` and `may_evict` are about what a request for a set that is
    not loaded may cause.
    """

    key_id: str | None = None
    scopes: frozenset[Scope] = frozenset({"infer", "admin"})
    categories: frozenset[str] | None = None
    may_load: bool = True
    may_evict: bool = True


ANYONE = Caller()


def caller_of(request: Request) -> Caller:
    """The caller that the gateway's guard found."""
    found = getattr(request.state, "caller", ANYONE)
    assert isinstance(found, Caller)
    return found
