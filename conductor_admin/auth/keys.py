"""API keys: their rules, their creation, and the check of a given text. Pure; `keys_file` stores them.

A key's text is random and is shown once. Only its SHA-256 is stored: 32 random bytes need no slower hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field

from conductor_admin.auth.caller import Caller, RateLimit, Scope
from conductor_core.issues import CellError
from conductor_core.slugs import slug_of
from handlers.wire import WHOLE, RequestError, Shape

PREFIX = "cdk_"
LONGEST_TEXT = 200

_MOST = 1_000_000_000
PerMinute = Annotated[int, Field(ge=1, le=_MOST), WHOLE]


def _slug(value: str) -> str:
    try:
        return slug_of(value)
    except CellError as error:
        raise ValueError(str(error)) from error


def _once(values: list[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


Category = Annotated[
    str,
    Field(max_length=200, json_schema_extra={"pattern": "^[A-Za-z0-9][A-Za-z0-9_ -]{0,63}$"}),
    AfterValidator(_slug),
]
Scopes = Annotated[list[Scope], Field(min_length=1), AfterValidator(_once)]
Categories = Annotated[list[Category], Field(min_length=1, max_length=1000), AfterValidator(_once)]


class KeyRules(Shape):
    """Permissions and limits of a key; None is no limit. `expires` is in Unix seconds."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    scopes: Scopes = Field(default=["infer"])
    categories: Categories | None = None
    may_load: bool = True
    may_evict: bool = True
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    streams: PerMinute | None = None
    expires: Annotated[float, Field(ge=0, le=1e11)] | None = None


class KeyBody(KeyRules):
    """A key to create: its name, for people, and its rules."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}$")]


class Key(KeyBody):
    """A key as it is stored; `created` is in Unix seconds."""

    id: Annotated[str, Field(pattern=r"^key_[0-9a-f]{12}$")]
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: float

    def is_valid(self, now: float) -> bool:
        """True if the key has not expired at `now`, in Unix seconds."""
        return self.expires is None or now < self.expires

    def to_json(self) -> dict[str, Any]:
        """The key as JSON, without the hash."""
        fields = self.model_dump(exclude={"hash"})
        return {name: fields.pop(name) for name in ("id", "name")} | fields

    def with_rules(self, changes: Mapping[str, Any]) -> Self:
        """The key with these rules, each a checked field of KeyRules by its name."""
        return self.model_copy(update=dict(changes))

    def caller(self) -> Caller:
        """The caller of a request with this key."""
        return Caller(
            key_id=self.id,
            name=self.name,
            scopes=frozenset(self.scopes),
            categories=None if self.categories is None else frozenset(self.categories),
            may_load=self.may_load,
            may_evict=self.may_evict,
            rate_limit=RateLimit(self.requests_per_minute, self.tokens_per_minute, self.streams),
        )


def make_key(body: KeyBody, keys: Iterable[Key]) -> tuple[Key, str]:
    """Make a new key and its text. Raises RequestError 409 `key_exists` if one of `keys` has the name."""
    if any(key.name == body.name for key in keys):
        raise RequestError(
            f"a key named {body.name!r} already exists", status=409, param="name", code="key_exists"
        )
    text = PREFIX + secrets.token_urlsafe(32)
    made = {"id": f"key_{secrets.token_hex(6)}", "hash": digest(text), "created": round(time.time(), 3)}
    return Key.model_validate({**body.model_dump(), **made}), text


def digest(text: str) -> str:
    """SHA-256 of a key's text, in hex; the only form in which it is stored."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def matching(keys: Iterable[Key], text: str) -> Key | None:
    """The key with this text, or None. Compares every hash in constant time."""
    asked, found = digest(text), None
    for key in keys:
        if hmac.compare_digest(key.hash, asked):
            found = key
    return found


def named(keys: Iterable[Key], name: str) -> Key:
    """The key with this id, else with this name. Raises 404 `key_not_found`."""
    by_name = None
    for key in keys:
        if key.id == name:
            return key  # a name may be spelled like the id of another key
        if key.name == name:
            by_name = key
    if by_name is not None:
        return by_name
    raise RequestError(f"no key {name[:64]!r}", status=404, code="key_not_found", param="key")
