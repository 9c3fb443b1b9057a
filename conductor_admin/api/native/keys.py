"""`/admin/keys`: create, list, change and revoke keys. Only the answer to a creation has the key's text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import APIRouter
from starlette.requests import Request

from conductor_admin.api.native.answers import KeyAnswer, KeyMade, KeysAnswer
from conductor_admin.api.routing import new_router, reads
from conductor_admin.auth.keys import Key, KeyBody, KeyRules, named
from conductor_admin.auth.keys_file import KeysFileError
from conductor_admin.gateway import Gateway
from conductor_admin.http.body import read_json
from conductor_admin.http.responses import keys_file_failed

T = TypeVar("T")


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = new_router("/admin")
    ring = gateway.keys

    @routes.get("/keys")
    async def keys() -> KeysAnswer:
        """Every key with its rules; `last_used` in Unix seconds since the gateway started, else null."""
        return KeysAnswer(keys=[_answer(gateway, key) for key in ring.all])

    @routes.post("/keys", status_code=201, openapi_extra=reads(KeyBody))
    async def create(request: Request) -> KeyMade:
        """Create a key; `key` in the answer is its text, which is never shown again."""
        body = await read_json(request, KeyBody)
        key, text = await _change(gateway, lambda: ring.file.create(body))
        request.state.audited = {"key": key.id, "name": key.name}
        return KeyMade(**dict(_answer(gateway, key)), key=text)

    @routes.get("/keys/{key}")
    async def one(key: str) -> KeyAnswer:
        """One key by its id or name."""
        return _answer(gateway, named(ring.all, key))

    @routes.patch("/keys/{key}", openapi_extra=reads(KeyRules))
    async def change(key: str, request: Request) -> KeyAnswer:
        """Change the rules that the body names; they apply from the next request on."""
        rules = (await read_json(request, KeyRules)).model_dump(exclude_unset=True)
        changed = await _change(gateway, lambda: ring.file.change(key, rules))
        request.state.audited = {"key": changed.id, "name": changed.name, "rules": rules}
        return _answer(gateway, changed)

    @routes.delete("/keys/{key}")
    async def revoke(key: str, request: Request) -> KeyAnswer:
        """Revoke a key at once; its running requests are ended."""
        found = named(ring.all, key)
        request.state.audited = {"key": found.id, "name": found.name}
        return _answer(gateway, await ring.revoke(found.id))

    return routes


async def _change(gateway: Gateway, change: Callable[[], T]) -> T:
    # The command line may hold the file's lock for a moment.
    try:
        done = await asyncio.to_thread(change)
    except KeysFileError as error:
        raise keys_file_failed(f"nothing was changed: {error}", error.cause) from error
    gateway.keys.look()
    return done


def _answer(gateway: Gateway, key: Key) -> KeyAnswer:
    return KeyAnswer(**key.to_json(), last_used=gateway.keys.last_used.get(key.id))
