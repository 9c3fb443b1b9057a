"""Access rules: every route with every kind of credential, and every spelling of a path."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

import pytest
from starlette.routing import BaseRoute
from starlette.types import Message

from conductor_admin.app import create_app
from conductor_admin.auth.access import ROUTE_SCOPES
from conductor_mcp.endpoint import McpEndpoint
from tests.conductor_admin.gateway_rig import OWNER_TOKEN, Rig
from tests.conductor_admin.key_rig import Keys
from tests.loop_steps import own_work

VALUES = {"category": "translation", "engine": "translation"}
VERBS = ("GET", "HEAD", "OPTIONS", "POST", "PATCH", "DELETE")


def templates(routes: Iterable[BaseRoute]) -> list[str]:
    """Path templates of an application's routes; a mounted one counts by its prefix."""
    return [str(getattr(route, "path", f"undeclared {route!r}")) for route in routes]


def filled(template: str) -> str:
    return re.sub(r"\{(\w+)[^}]*\}", lambda part: VALUES.get(part[1], "0" * 12), template)


async def test_every_route_has_a_line_in_the_table_and_every_line_a_route(rig: Rig) -> None:
    """A new route needs an entry in `conductor_admin.auth.access.ROUTE_SCOPES`."""
    with own_work("builds an application"):
        app = create_app(rig.gateway, McpEndpoint(rig.gateway).routes)
    assert set(templates(app.routes)) == set(ROUTE_SCOPES), "auth/access.py has the scope of every route"


async def test_each_route_asks_for_what_the_table_says_with_every_method(keys: Keys) -> None:
    with own_work("builds an application"):
        routes = sorted(set(templates(create_app(keys.rig.gateway).routes)) & ROUTE_SCOPES.keys())
    assert routes
    for template in routes:
        for method in VERBS:
            await check_route(keys, method, filled(template), ROUTE_SCOPES[template])


async def check_route(keys: Keys, method: str, path: str, need: str) -> None:
    public, admin = need == "nothing", need == "admin"
    for text in (None, keys.revoked, "cdk_wrong"):
        assert await refusal(keys, method, path, text) == (None if public else 401), (method, path)
    assert await refusal(keys, method, path, keys.infer) == (403 if admin else None), (method, path)
    assert await refusal(keys, method, path, keys.admin) == (403 if need == "infer" else None), (method, path)
    assert await refusal(keys, method, path, keys.both) is None, (method, path)
    assert await refusal(keys, method, path, OWNER_TOKEN) is None, (method, path)


async def refusal(keys: Keys, method: str, path: str, text: str | None) -> int | None:
    """401 or 403 if the request was refused for its key; None if the route itself answered."""
    response = await keys.ask(method, path, text, content=b"not json")
    if response.status_code not in (401, 403):
        return None
    assert method == "HEAD" or response.json()["error"].keys() == {"message", "type", "param", "code"}
    assert ("www-authenticate" in response.headers) == (response.status_code == 401)
    return response.status_code


ODD_PATHS = (
    "//admin/keys",
    "/admin//keys",
    "/admin/../admin/keys",
    "/health/live/../../admin/keys",
    "/%2e%2e/admin/keys",
    "/admin%2fkeys",
    "/%61dmin/keys",
    "/admin/keys/",
    "/admin/keys;x=/health/live",
    "/ADMIN/KEYS",
    "/Health/Live",
    "/health/live/",
    "/health/live%00",
    "/health/live%20",
    "/nothing",
    "/.well-known/x",
)


@pytest.mark.parametrize("path", ODD_PATHS)
async def test_no_spelling_of_a_path_gets_past_the_keys(keys: Keys, path: str) -> None:
    for method in ("GET", "POST"):
        status, _ = await raw(keys.rig, f"{method} {path} HTTP/1.1", "content-length: 0")
        assert status == 401
        status, body = await raw(keys.rig, f"GET {path} HTTP/1.1", f"authorization: Bearer {keys.infer}")
        assert status in (307, 403, 404)
        assert b'"keys"' not in body


async def test_an_address_in_the_request_line_is_no_way_around(keys: Keys) -> None:
    line = f"GET {keys.rig.url}/admin/keys HTTP/1.1"
    assert (await raw(keys.rig, line))[0] == 401


async def raw(rig: Rig, *lines: str) -> tuple[int, bytes]:
    """Status and body of a request with exactly these lines besides Host."""
    host = rig.url.removeprefix("http://")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write("\r\n".join([lines[0], f"Host: {host}", "Connection: close", *lines[1:], "", ""]).encode())
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def test_a_websocket_is_refused(keys: Keys) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    with own_work("builds an application"):
        app = create_app(keys.rig.gateway)
    for path in ("/generate", "/admin/keys", "/health/live"):
        await app({"type": "websocket", "path": path, "headers": [], "query_string": b""}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"] * 3


WRONG = (
    "Bearer",
    "Bearer ",
    "Basic {key}",
    "{key}",
    "Bearer {key} x",
    "Bearer {key}, Bearer {key}",
    "Bearer {key}x",
    "Bearer ' OR 1=1 --",
    "Bearer cdk_\xe9",
    "Bearer " + "k" * 16_000,
)


@pytest.mark.parametrize("given", WRONG, ids=range(len(WRONG)))
async def test_what_is_no_key_is_refused(keys: Keys, given: str) -> None:
    status, body = await raw(
        keys.rig, "GET /models HTTP/1.1", f"authorization: {given.format(key=keys.infer)}"
    )
    assert status == 401
    assert keys.infer.encode() not in body
    assert keys.rig.gateway.keys.failures == 1


async def test_two_credentials_are_none(keys: Keys) -> None:
    lines = [f"authorization: Bearer {keys.infer}"] * 2
    assert (await raw(keys.rig, "GET /models HTTP/1.1", *lines))[0] == 401


@pytest.mark.parametrize("given", ["Bearer {key}", "bearer {key}", "BEARER  {key}"])
async def test_a_key_is_taken_as_a_bearer_token(keys: Keys, given: str) -> None:
    line = f"authorization: {given.format(key=keys.infer)}"
    assert (await raw(keys.rig, "GET /models HTTP/1.1", line))[0] == 200


async def test_a_key_is_taken_from_x_api_key(keys: Keys) -> None:
    assert (await raw(keys.rig, "GET /models HTTP/1.1", f"x-api-key: {keys.infer}"))[0] == 200
    assert (await raw(keys.rig, "GET /models HTTP/1.1", "x-api-key: cdk_wrong"))[0] == 401


async def test_a_key_in_the_address_or_a_cookie_is_none(keys: Keys) -> None:
    for line in (
        f"GET /models?api_key={keys.both} HTTP/1.1",
        f"GET /models?authorization=Bearer+{keys.both} HTTP/1.1",
    ):
        assert (await raw(keys.rig, line))[0] == 401
    assert (await raw(keys.rig, "GET /models HTTP/1.1", f"cookie: api_key={keys.both}"))[0] == 401


async def test_without_keys_any_credential_is_as_good_as_none(rig: Rig) -> None:
    """OpenAI's clients always send a credential."""
    for line in ("x-api-key: unused", "authorization: Bearer sk-unused", "authorization: nonsense"):
        assert (await raw(rig, "GET /models HTTP/1.1", line))[0] == 200
