"""`/admin/keys`: create, list, change and revoke keys. Only the answer to a creation has the key's text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.openapi import reads
from conductor_admin.auth.keys import Key, KeyBody, KeyRules, named
from conductor_admin.auth.keys_file import KeysFileError
from conductor_admin.gateway import Gateway
from conductor_admin.http.body import read_json
from conductor_admin.http.responses import JsonResponse, keys_file_failed

T = TypeVar("T")


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = APIRouter(prefix="/admin")
    ring = gateway.keys

    @routes.get("/keys")
    async def keys() -> Response:
        """Every key with its rules; `last_used` in Unix seconds since the gateway started, else null."""
        return JsonResponse({"keys": [_key_to_json(gateway, key) for key in ring.all]})

    @routes.post("/keys", openapi_extra=reads(KeyBody))
    async def create(request: Request) -> Response:
        """Create a key; `key` in the answer is its text, which is never shown again."""
        body = await read_json(request, KeyBody)
        key, text = await _change(gateway, lambda: ring.file.create(body))
        request.state.audited = {"key": key.id, "name": key.name}
        return JsonResponse({**_key_to_json(gateway, key), "key": text}, 201)

    @routes.get("/keys/{key}")
    async def one(key: str) -> Response:
        """One key by its id or name."""
        return JsonResponse(_key_to_json(gateway, named(ring.all, key)))

    @routes.patch("/keys/{key}", openapi_extra=reads(KeyRules))
    async def change(key: str, request: Request) -> Response:
        """Change the rules that the body names; they apply from the next request on."""
        rules = (await read_json(request, KeyRules)).model_dump(exclude_unset=True)
        changed = await _change(gateway, lambda: ring.file.change(key, rules))
        request.state.audited = {"key": changed.id, "name": changed.name, "rules": rules}
        return JsonResponse(_key_to_json(gateway, changed))

    @routes.delete("/keys/{key}")
    async def revoke(key: str, request: Request) -> Response:
        """Revoke a key at once; its running requests are ended."""
        found = named(ring.all, key)
        request.state.audited = {"key": found.id, "name": found.name}
        revoked = await ring.revoke(found.id)
        return JsonResponse(_key_to_json(gateway, revoked))

    return routes


async def _change(gateway: Gateway, change: Callable[[], T]) -> T:
    # The command line may hold the file's lock for a moment.
    try:
        done = await asyncio.to_thread(change)
    except KeysFileError as error:
        raise keys_file_failed(f"nothing was changed: {error}", error.cause) from error
    gateway.keys.look()
    return done


def _key_to_json(gateway: Gateway, key: Key) -> dict[str, Any]:
    return {**key.to_json(), "last_used": gateway.keys.last_used.get(key.id)}
