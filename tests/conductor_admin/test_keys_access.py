"""Which request may do what: every route with every kind of credential, and every spelling of a path."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx2
import pytest
from starlette.routing import BaseRoute

from conductor_admin.access import NEEDS
from conductor_admin.app import create_app
from conductor_admin.keys import KeyBody
from conductor_admin.keys_file import KeysFile
from conductor_core.paths import StateDir
from tests.conductor_admin.gateway_rig import OWNER_TOKEN, MakeRig, Rig

VALUES = {"category": "translation", "engine": "translation"}
VERBS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE")


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


@dataclasses.dataclass(frozen=True)
class Keys:
    """Texts of keys of `rig`, whose gateway is closed by them."""

    rig: Rig
    infer: str
    admin: str
    both: str
    revoked: str

    async def ask(self, method: str, path: str, text: str | None, **more: Any) -> httpx2.Response:
        headers = {} if text is None else bearer(text)
        return await self.rig.client.request(method, path, headers=headers, **more)


@pytest.fixture
async def keys(make_rig: MakeRig, state: StateDir) -> AsyncIterator[Keys]:
    async with make_rig() as rig:
        file = KeysFile(state)
        made = {
            "infer": file.create(KeyBody(name="infer"))[1],
            "admin": file.create(KeyBody(name="admin", scopes=["admin"]))[1],
            "both": file.create(KeyBody(name="both", scopes=["infer", "admin"]))[1],
            "revoked": file.create(KeyBody(name="revoked"))[1],
        }
        file.revoke("revoked")
        yield Keys(rig, **made)


def templates(routes: Iterable[BaseRoute]) -> list[str]:
    """Path templates of an application's routes; a mounted one counts by its prefix."""
    return [str(getattr(route, "path", f"undeclared {route!r}")) for route in routes]


def filled(template: str) -> str:
    return re.sub(r"\{(\w+)[^}]*\}", lambda part: VALUES.get(part[1], "0" * 12), template)


async def test_every_route_has_a_line_in_the_table(rig: Rig) -> None:
    """A new route has to be decided about: in `conductor_admin.access.NEEDS`."""
    assert set(templates(create_app(rig.gateway).routes)) <= set(NEEDS)


async def test_each_route_asks_for_what_the_table_says_with_every_method(keys: Keys) -> None:
    routes = sorted(set(templates(create_app(keys.rig.gateway).routes)))
    assert routes
    for template in routes:
        for method in VERBS:
            await check_route(keys, method, filled(template), NEEDS[template])


async def check_route(keys: Keys, method: str, path: str, need: str) -> None:
    public, admin = need == "nothing", need == "admin"
    for text in (None, keys.revoked, "cdk_wrong"):
        assert await refusal(keys, method, path, text) == (None if public else 401), (method, path)
    assert await refusal(keys, method, path, keys.infer) == (403 if admin else None), (method, path)
    assert await refusal(keys, method, path, keys.admin) == (403 if need == "infer" else None), (method, path)
    assert await refusal(keys, method, path, keys.both) is None, (method, path)
    assert await refusal(keys, method, path, OWNER_TOKEN) is None, (method, path)


async def refusal(keys: Keys, method: str, path: str, text: str | None) -> int | None:
    """401 or 403 where the request was refused for its key; None where the route answered in any way."""
    response = await keys.ask(method, path, text, content=b"not json")
    if response.status_code not in (401, 403):
        return None
    assert method == "HEAD" or response.json()["error"].keys() == {"message", "type", "param", "code"}
    assert ("www-authenticate" in response.headers) == (response.status_code == 401)
    return response.status_code
